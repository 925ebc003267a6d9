/**
 * A worker as a process of its own, for tests that kill one: the job `test` says on the Redis list
 * `<prefix>:runs` when it begins and when it has ended, and takes `payload.ms`; with `how: 'hang'` it holds the
 * event loop all that time (`on` one instance only), with `how: 'deaf'` it heeds no signal.
 * Environment: REDIS_URL, DATABASE_URL, PREFIX, PARTITIONS, INSTANCE_ID, LEASE_TIMING (JSON).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { Type } from 'typebox';
import { defineJob } from '../../src/consumers/define-job.ts';
import { startLeaseKeeper } from '../../src/consumers/lease-keeper.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createEventStore } from '../../src/eventstore/store.ts';
import type { LedgerTables } from '../../src/eventstore/tables.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { connectionsTo, randomText, testHmac } from './connections.ts';

const env = (name: string) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing`);
  return value;
};

const instanceId = env('INSTANCE_ID');
const db = openDatabase<LedgerTables>({
  url: env('DATABASE_URL'),
  max: 3,
  applicationName: instanceId,
});
const store = await createEventStore({
  redisUrl: env('REDIS_URL'),
  db,
  prefix: env('PREFIX'),
  partitions: Number(env('PARTITIONS')),
  name: instanceId,
});
const say = (word: string, jobId: string, attempt: number) =>
  store.writer.redis.rpush(`${env('PREFIX')}:runs`, `${word} ${jobId} ${attempt} ${instanceId}`);

const job = defineJob({
  type: 'test',
  enqueuedBy: 'accounts',
  queue: 'default',
  maxAttempts: 3,
  timeoutSeconds: 60,
  retry: { baseMs: 20, capMs: 100 },
  payload: Type.Object({
    ms: Type.Number(),
    how: Type.Optional(Type.Enum(['hang', 'deaf'])),
    on: Type.Optional(Type.String()),
  }),
  result: Type.Object({ by: Type.String() }),
  async run({ job, signal }) {
    await say('begin', job.id, job.attempt);
    const { ms, how, on } = job.payload;
    if (on !== undefined && on !== instanceId) return { by: instanceId };
    // As a long loop, for less heat.
    if (how === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    else await sleep(ms, undefined, how === 'deaf' ? {} : { signal });
    await say('end', job.id, job.attempt);
    return { by: instanceId };
  },
});

const workers = await startWorkers({
  instanceId,
  prefix: env('PREFIX'),
  store,
  db,
  connections: {
    ...connectionsTo(env('REDIS_URL')),
    leaseKeeper: () =>
      startLeaseKeeper({
        redisUrl: env('REDIS_URL'),
        log: { level: 'info', role: 'workers', instanceId },
        timing: JSON.parse(process.env.LEASE_TIMING ?? '{}'),
        onDeath(error) {
          console.log(error.message);
          process.exit(1);
        },
      }),
  },
  metrics: createMetrics({ node: false }),
  logger: pino({ level: 'warn' }),
  now: () => new Date(),
  randomText,
  hmac: testHmac,
  traceCommit: (_, run) => run(undefined),
  jobs: [job],
  concurrency: 4,
  drainMs: 1_000,
  random: Math.random,
});
process.once('SIGTERM', async () => {
  await workers.stop();
  await store.close();
  await db.destroy();
  process.exit(0);
});
await workers.ready();
console.log('ready');
