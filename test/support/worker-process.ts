/**
 * A worker as a process of its own, for tests that kill one. It knows the job `test` (see test-jobs.ts), which says on
 * the Redis list `<prefix>:runs` when it begins and when it has ended: `begin | end <job> <attempt> <instance>`, and
 * `alone` where it runs in a process of its own.
 * Environment: REDIS_URL, DATABASE_URL, PREFIX, PARTITIONS, INSTANCE_ID, LEASE_TIMING (JSON), CONCURRENCY,
 * SLOT_MS.
 */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { pino } from 'pino';
import { startLeaseKeeper } from '../../src/consumers/lease-keeper.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createEventStore } from '../../src/eventstore/store.ts';
import type { LedgerTables } from '../../src/eventstore/tables.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { connectionsTo, randomText, testHmac } from './connections.ts';
import { testJob } from './test-jobs.ts';

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

const job = testJob(instanceId, say);

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
  now: store.clock.now,
  randomText,
  hmac: testHmac,
  traceCommit: (_, run) => run(undefined),
  jobs: [job],
  spawn: () =>
    fork(join(import.meta.dirname, 'worker-child.ts'), {
      execArgv: ['--max-old-space-size=64'],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    }),
  mostChildren: Number(process.env.CHILDREN ?? 1),
  concurrency: Number(process.env.CONCURRENCY ?? 4),
  slotMs: Number(process.env.SLOT_MS ?? 30_000),
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
