// How long a client waits to read its own write: from a command's answer to that of a query which brings the
// command's Position, at 200 commands a second through the real HTTP API, projectors and Postgres. Commands are
// sent by the clock, whether or not earlier ones were answered, so that a stall shows in every wait it caused.
// With --rebuild the read models that are asked are rebuilt meanwhile, one rebuild after the other.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../deploy/local/servers.mjs';
import { openDatabase } from '../src/eventstore/postgres.ts';
import { projections } from '../src/features.ts';
import type { Database } from '../src/projections/database.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { activeRebuilds, beginRebuild } from '../src/projections/rebuild/rebuilds.ts';
import { finish, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'freshness',
  'From the answer of a command to that of the query which includes it, through the real API.',
  {
    rate: { takes: 'count', default: 200, help: 'commands a second' },
    seconds: { takes: 'number', default: 10, help: 'how long it is measured' },
    'warm-up': { takes: 'number', default: 3, least: 0, help: 'seconds before that' },
    rebuild: { takes: 'flag', help: 'rebuild the read models that are asked meanwhile' },
  },
);
const { rate, seconds, 'warm-up': warmUp } = values;
/** The aim: p99 below this. */
const AIM_MS = 50;

reportMachine({});
const agent = new Agent({ keepAlive: true });
const port = await freePort();
await migrate();
const server = await startServer();
try {
  await untilReady();
  const token = await logIn();
  await run(token, rate * warmUp);
  const rebuilding = values.rebuild ? startRebuilding() : undefined;
  const waits = (await run(token, rate * seconds)).sort((one, other) => one - other);
  const rebuilds = await rebuilding?.stop();
  const [p50, p99] = [quantile(waits, 0.5), quantile(waits, 0.99)];
  const max = waits.at(-1) ?? 0;
  report({ bench: 'freshness', rate, commands: waits.length, rebuilds, p50Ms: p50, p99Ms: p99, maxMs: max });
  finish(AIM_MS / p99, `of the aim: p99 ${p99} ms against ${AIM_MS} ms, p50 ${p50} ms`);
} finally {
  agent.destroy();
  await stop();
}

async function migrate(): Promise<void> {
  const url = process.env.DATABASE_URL;
  if (url === undefined) throw new Error('run it by: npm run bench -- freshness');
  const db = openDatabase({ url, max: 1, applicationName: 'bench' });
  await migrateToLatest(db).finally(() => db.destroy());
}

/** As an operator would, again and again. */
function startRebuilding() {
  const db = openDatabase<Database>({
    url: process.env.DATABASE_URL ?? '',
    max: 1,
    applicationName: 'bench',
  });
  let on = true;
  let rebuilds = 0;
  const loop = (async () => {
    for (; on; rebuilds++) {
      const { partitions } = await db
        .selectFrom('installation')
        .select('partitions')
        .executeTakeFirstOrThrow();
      const asked = { partitions, by: 'bench', reason: 'to measure', dropsPrevious: true };
      for (const name of ['exports', 'jobs'] as const) await beginRebuild(db, projections[name], asked);
      while ((await activeRebuilds(db)).length > 0) await sleep(50);
    }
  })();
  return {
    async stop(): Promise<number> {
      on = false;
      await loop;
      await db.destroy();
      return 2 * rebuilds;
    },
  };
}

async function startServer() {
  const env = {
    ...process.env,
    PORT: String(port),
    LOG_LEVEL: 'warn',
    TRACE_SAMPLE_RATIO: '0.01',
  };
  return spawn(process.execPath, ['src/main.ts', '--roles', 'api,projectors'], {
    cwd: `${import.meta.dirname}/..`,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function stop(): Promise<void> {
  if (server.exitCode !== null) return;
  server.kill('SIGTERM');
  await once(server, 'exit');
}

async function untilReady(): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    if (server.exitCode !== null) throw new Error(`the server ended with ${server.exitCode}`);
    const answer = await send('GET', '/readyz').catch(() => undefined);
    if (answer?.status === 200) return;
    await sleep(100);
  }
  throw new Error('the server was not ready within 30 s');
}

async function logIn(): Promise<string> {
  const who = { email: `bench-${Date.now()}@example.org`, password: 'a long enough password' };
  expectStatus(await send('POST', '/v1/accounts', { ...who, name: 'Bench' }), 201);
  const session = expectStatus(await send('POST', '/v1/sessions', who), 201);
  const { accessToken } = JSON.parse(session.body) as { accessToken: string };
  return accessToken;
}

/** Sends commands by the clock. @returns how long each waited for its own write, in ms */
async function run(token: string, commands: number): Promise<number[]> {
  const headers = { authorization: `Bearer ${token}` };
  const start = performance.now();
  const waits = Array.from({ length: commands }, async (_, index) => {
    await sleep(Math.max(0, start + (index * 1000) / (rate ?? 1) - performance.now()));
    const command = await send('POST', '/v1/exports', { dataset: 'events', format: 'csv' }, headers);
    const { location, position } = expectStatus(command, 202).headers;
    const answered = performance.now();
    const query = { ...headers, 'consistent-with': String(position) };
    expectStatus(await send('GET', String(location), undefined, query), 200);
    return Math.round((performance.now() - answered) * 100) / 100;
  });
  return Promise.all(waits);
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

type Answer = {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
};

function expectStatus(answer: Answer, status: number): Answer {
  if (answer.status !== status)
    throw new Error(`${answer.status} instead of ${status}: ${answer.body.slice(0, 500)}`);
  return answer;
}

function send(
  method: string,
  path: string,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const type = body ? { 'content-type': 'application/json' } : {};
    const sent = request({ port, method, path, agent, headers: { ...headers, ...type } }, async (reply) => {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of reply) chunks.push(chunk);
        resolve({
          status: reply.statusCode ?? 0,
          headers: reply.headers,
          body: Buffer.concat(chunks).toString(),
        });
      } catch (error) {
        reject(error);
      }
    });
    sent.on('error', reject);
    sent.end(body ? JSON.stringify(body) : undefined);
  });
}
