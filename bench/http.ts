// A command through the whole route (validation, token, session, commit), with tracing at 1 % sampling, against a
// Fastify route with schema validation, token verification and one XADD. 64 connections, one request at a time each.
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { generateTokenKey } from '../src/access/tokens.ts';
import { openDatabase } from '../src/eventstore/postgres.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { type Contestant, compare, finish, measure, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'http',
  'A command through the whole route, against a bare Fastify route with schema, token and one XADD.',
  {
    rounds: { takes: 'count', default: 5, help: 'how often each contestant has its turn' },
    seconds: { takes: 'number', default: 2, help: 'how long a turn lasts' },
    concurrency: { takes: 'count', default: 64, help: 'how many connections, with a request each' },
    exec: { takes: 'text', help: 'arguments for the Node of the servers, such as --cpu-prof' },
    only: {
      takes: 'name',
      of: ['plain', 'command', 'export'],
      help: 'run one contestant by itself, to be profiled',
    },
  },
);
const { REDIS_URL, DATABASE_URL } = process.env;
if (!REDIS_URL || !DATABASE_URL)
  throw new Error('REDIS_URL and DATABASE_URL: npm run bench -- http sets them');

const db = openDatabase({ url: DATABASE_URL, max: 1, applicationName: 'bench-http' });
await migrateToLatest(db).finally(() => db.destroy());

// Spans that are sampled are sent to somebody, as they are in production.
const collector = createServer((request, response) => {
  request.resume().on('end', () => response.end('{}'));
}).listen(0, '127.0.0.1');
await once(collector, 'listening');
const collectorUrl = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;

const servers = fork(new URL('http/servers.ts', import.meta.url), {
  execArgv: values.exec?.split(' ') ?? [],
  env: {
    ...process.env,
    KEY_PREFIX: `bench${randomBytes(4).toString('hex')}`,
    MASTER_KEY: randomBytes(32).toString('base64'),
    HMAC_KEY: randomBytes(32).toString('base64'),
    TOKEN_KEYS: `bench:${generateTokenKey().toString('base64')}`,
    BCRYPT_COST: '4',
    TRACE_SAMPLE_RATIO: '0.01',
    OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl,
  },
});
const [{ urls, tokens }] = (await once(servers, 'message')) as [
  { urls: { ours: string; baseline: string }; tokens: string[] },
];

/** CPU time of the servers' process so far. */
async function cpuMicroseconds(): Promise<number> {
  servers.send('usage');
  const [{ user, system }] = (await once(servers, 'message')) as [NodeJS.CpuUsage];
  return user + system;
}

/** Sends the same bytes again and again on connections that are kept; answers are read just enough to find their end. */
async function client(name: string, base: string, path: string, body: object): Promise<Contestant> {
  const url = new URL(path, base);
  const text = JSON.stringify(body);
  const connections = await Promise.all(
    Array.from({ length: values.concurrency }, async (_, worker) => {
      const socket = connect(Number(url.port), url.hostname).setNoDelay();
      await once(socket, 'connect');
      const token = tokens[worker % tokens.length];
      const request = `POST ${path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
      return exchange(socket, Buffer.from(request));
    }),
  );
  return {
    name,
    once: (worker) => connections[worker]?.() ?? Promise.reject(new Error('no such connection')),
  };
}

function exchange(socket: Socket, request: Buffer): () => Promise<void> {
  let answered: () => void = () => {};
  let failed: (error: Error) => void = () => {};
  let received = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk;
    const head = received.indexOf('\r\n\r\n');
    const length = /content-length: (\d+)/i.exec(received)?.[1];
    if (head < 0 || received.length < head + 4 + Number(length)) return;
    if (received.startsWith('HTTP/1.1 202')) answered();
    else failed(new Error(received));
    received = '';
  });
  socket.on('close', () => failed(new Error('the server closed the connection')));
  return () =>
    new Promise((resolve, reject) => {
      answered = resolve;
      failed = reject;
      socket.write(request);
    });
}

const job = { type: 'mail.send', payload: { to: 'ada@example.org', text: 'x'.repeat(200) } };
const ours = 'command through the whole route';
reportMachine({ concurrency: values.concurrency, bodyBytes: JSON.stringify(job).length });
const concurrency = values.concurrency;
const seconds = values.seconds;
const contestants = {
  plain: await client('Fastify, validation, token, one XADD', urls.baseline, '/v1/bench-jobs', job),
  command: await client(ours, urls.ours, '/v1/bench-jobs', job),
  export: await client('POST /v1/exports', urls.ours, '/v1/exports', { dataset: 'events', format: 'csv' }),
};
const alone = Object.entries(contestants).find(([name]) => name === values.only)?.[1];
if (alone) {
  await measure(alone, { concurrency, seconds: seconds / 2 });
  const before = await cpuMicroseconds();
  const run = await measure(alone, { concurrency, seconds });
  const spent = (await cpuMicroseconds()) - before;
  const cpuPerRequest = Number((spent / run.perSecond / seconds).toFixed(1));
  report({ bench: 'http', contestant: alone.name, ...run, cpuMicrosecondsPerRequest: cpuPerRequest });
  servers.disconnect();
  await once(servers, 'exit');
  process.exit(0);
}
const results = await compare('http', contestants.plain, [contestants.command, contestants.export], {
  rounds: values.rounds,
  seconds,
  concurrency,
});
for (const [contestant, { perSecond, ratio }] of results) {
  report({
    bench: 'http',
    contestant,
    medianPerSecond: Math.round(perSecond),
    medianRatio: Number(ratio.toFixed(3)),
  });
}
servers.disconnect();
await once(servers, 'exit');
collector.close();
finish(
  results.get(ours)?.ratio ?? Number.NaN,
  `${ours}, ${concurrency} connections, against a Fastify route with validation, token verification and one XADD`,
);
process.exit(0);
