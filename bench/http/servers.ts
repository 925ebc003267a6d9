// The two servers that bench/http.ts compares, in a process of their own: the load must not be in their way.
import fastifyJwt from '@fastify/jwt';
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import Fastify from 'fastify';
import { Type } from 'typebox';
import { createSessionCheck } from '../../src/access/sessions.ts';
import { readTokenKeys } from '../../src/access/tokens.ts';
import { openWriteSide } from '../../src/app/write-side.ts';
import { registerAccount } from '../../src/commands/accounts.ts';
import { requestExport } from '../../src/commands/exports.ts';
import { type CommandContext, type CommandDeps, changeOf, handle } from '../../src/commands/handle.ts';
import { login } from '../../src/commands/sessions.ts';
import { readConfig } from '../../src/config.ts';
import { accountFold } from '../../src/domain/accounts.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import { enqueueJob } from '../../src/domain/jobs/requests.ts';
import { jobFold } from '../../src/domain/jobs/state.ts';
import { sessionFold } from '../../src/domain/sessions.ts';
import { connectWriter } from '../../src/eventstore/connections.ts';
import { type ContextOf, commandAnswer, commandContexts, doneOf } from '../../src/http/commands.ts';
import { createStreams } from '../../src/http/draining.ts';
import { exportRoutes } from '../../src/http/exports.ts';
import { storeOutageOf } from '../../src/http/failures.ts';
import { Id, Strict, Version } from '../../src/http/schemas.ts';
import { createServer } from '../../src/http/server.ts';
import { pollReadModel } from '../../src/http/streams.ts';
import type { Routes } from '../../src/http/types.ts';
import { createLogger } from '../../src/telemetry/logging.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { startTracing } from '../../src/telemetry/start.ts';

const config = readConfig(process.env);
const logger = createLogger({ level: 'warn', role: 'bench', instanceId: 'bench' });
startTracing({
  serviceName: 'bench',
  role: 'api',
  instanceId: 'bench',
  sampleRatio: config.TRACE_SAMPLE_RATIO,
  otlpEndpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT,
});
const metrics = createMetrics({ node: false });
const side = await openWriteSide({ config, logger, metrics }, 'bench');
const tokenKeys = readTokenKeys(config.TOKEN_KEYS);

/** What both servers take: a job as a client would ask for one. */
const JobRequest = Strict({
  type: Type.String({ pattern: '^[a-z][a-z0-9.-]{0,63}$', maxLength: 64 }),
  payload: Type.Object({ to: Type.String({ maxLength: 200 }), text: Type.String({ maxLength: 2000 }) }),
});
const JobAccepted = Type.Object({ id: Id, version: Version });

/** One command through `handle`: the event of a job, its state and its work entry in one commit. */
function jobCommand(contextOf: ContextOf): Routes {
  return (app) => {
    app.post(
      '/v1/bench-jobs',
      {
        schema: { body: JobRequest, response: { 202: JobAccepted } },
        config: { auth: 'account', command: true },
      },
      async (request, reply) => {
        const done = doneOf(await enqueue(side.commands, contextOf(request), request.body));
        commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );
  };
}

let turn = 0;
async function enqueue(deps: CommandDeps, context: CommandContext, job: { type: string; payload: object }) {
  turn = (turn + 1) % deps.store.partitions;
  const jobId: JobId = streamId('job', turn, deps.randomText(20));
  return handle(deps, context, turn, async () => {
    const enqueued = enqueueJob(jobFold.initial, {
      ...job,
      queue: 'default',
      priority: 'normal',
      maxAttempts: 5,
      timeoutSeconds: 3600,
    });
    if (!enqueued.ok) return enqueued;
    const now = deps.now();
    const stream = {
      streamId: jobId,
      state: jobFold.initial,
      version: 0,
      expected: { kind: 'minted' },
    } as const;
    const change = changeOf(context, now.toISOString(), stream, jobFold, enqueued.events);
    const work = { queue: 'default', priority: 'normal', jobId, type: job.type, dueAt: now.getTime() };
    return {
      ok: true,
      plan: { changes: [change], work: [work], body: { id: jobId, version: change.version } },
    };
  });
}

const contextOf = commandContexts({ hmac: side.hmac, durability: 'memory' });
const checkSession = createSessionCheck(
  {
    session: async (id) => (await side.store.load(id, sessionFold)).state,
    account: async (id) => (await side.store.load(id, accountFold)).state,
  },
  storeOutageOf,
);
const streams = createStreams();
const ours = createServer({
  logger,
  metrics,
  routes: [
    jobCommand(contextOf),
    exportRoutes({
      contextOf,
      requestExport: (...rest) => requestExport(side.commands, ...rest),
      findExport: async () => undefined,
      blobSecret: side.hmac('blob urls', ''),
      watchReadModel: pollReadModel,
      streams,
      checkSession,
    }),
  ],
  tokens: { keys: tokenKeys, issuer: 'millrace', audience: 'millrace' },
  checkSession,
  hmac: side.hmac,
  takeLimit: async () => 'unknown',
  streams,
});

// What many would write by hand: verified tokens are cached there, too, or it would only be a bench of Ed25519.
const plain = connectWriter({ url: config.REDIS_URL, name: 'bench-plain' });
await plain.whenReady(5_000);
const baseline = Fastify()
  .withTypeProvider<TypeBoxTypeProvider>()
  .setValidatorCompiler(TypeBoxValidatorCompiler);
await baseline.register(fastifyJwt, {
  secret: { private: tokenKeys[0].privatePem, public: tokenKeys[0].publicPem },
  sign: { algorithm: 'EdDSA' },
  verify: { algorithms: ['EdDSA'], allowedIss: 'millrace', allowedAud: 'millrace', cache: true },
});
baseline.post(
  '/v1/bench-jobs',
  {
    schema: { body: JobRequest, response: { 202: JobAccepted } },
    onRequest: async (request) => {
      await request.jwtVerify();
    },
  },
  async (request, reply) => {
    const id = await plain.redis.xadd(
      `${config.KEY_PREFIX}:plain`,
      '*',
      'type',
      request.body.type,
      'payload',
      JSON.stringify(request.body.payload),
    );
    return reply.code(202).send({ id: String(id), version: 1 });
  },
);

const urls = {
  ours: await ours.listen({ port: 0, host: '127.0.0.1' }),
  baseline: await baseline.listen({ port: 0, host: '127.0.0.1' }),
};

/** Accounts that have logged in, by the commands themselves. */
async function accessTokens(count: number): Promise<string[]> {
  const context = { actor: 'anonymous', correlation: 'bench', durability: 'memory' } as const;
  const tokens: string[] = [];
  for (let i = 0; i < count; i++) {
    const person = { email: `bench${i}@example.org`, password: 'a long password', name: 'Bench' };
    doneOf(await registerAccount(side.commands, context, person));
    const { accountId, id, role } = doneOf(await login(side.commands, context, person)).body;
    tokens.push(ours.jwt.sign({ sub: accountId, sid: id, role }));
  }
  return tokens;
}

process.send?.({ urls, tokens: await accessTokens(16) });
// What the load cost this process, for the figures.
process.on('message', () => process.send?.(process.cpuUsage()));
process.on('disconnect', () => process.exit(0));
