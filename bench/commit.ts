// Commits of one 300-byte event from one Node process, 64 at once, against plain XADD by the same client.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Redis } from 'ioredis';
import type { EventId } from '../src/domain/ids.ts';
import { streamId } from '../src/domain/ids.ts';
import { connectWriter } from '../src/eventstore/connections.ts';
import { openDatabase } from '../src/eventstore/postgres.ts';
import { createEventStore, type OpenEventStore } from '../src/eventstore/store.ts';
import type { LedgerTables } from '../src/eventstore/tables.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { type Contestant, compare, finish, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'commit',
  'Commits of one 300-byte event from one Node process, against plain XADD by the same client.',
  {
    rounds: { takes: 'count', default: 5, help: 'how often each contestant has its turn' },
    seconds: { takes: 'number', default: 2, help: 'how long a turn lasts' },
    concurrency: { takes: 'count', default: 64, help: 'how many are under way at once' },
  },
);
const { REDIS_URL, DATABASE_URL } = process.env;
if (!REDIS_URL || !DATABASE_URL)
  throw new Error('REDIS_URL and DATABASE_URL: npm run bench -- commit sets them');

// 300 bytes of data and metadata, with a state as small as most are.
const meta = JSON.stringify({
  schema: 1,
  at: '2026-11-20T12:00:00.000Z',
  actor: 'acc-0012345678901234567890',
  correlation: '0123456789abcdef0123456789abcdef',
});
const data = JSON.stringify({ text: 'x'.repeat(300 - meta.length - '{"text":""}'.length) });
const state = { json: '{"phase":"queued","attempts":0,"type":"export"}', fold: 1 };

const db = openDatabase<LedgerTables>({ url: DATABASE_URL, max: 4, applicationName: 'bench-commit' });
await migrateToLatest(db);
const prefix = `bench${randomBytes(4).toString('hex')}`;
const store = await createEventStore({
  redisUrl: REDIS_URL,
  db,
  prefix,
  partitions: 16,
  name: 'bench',
  onWarning: (warning) => report({ warning }),
});
// As an application would, with the settings that keep a write from being sent twice.
const plain = new Redis(REDIS_URL, {
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: false,
  commandTimeout: 2_000,
});
const gathered = connectWriter({ url: REDIS_URL, name: 'bench-gathered' });
await Promise.all([once(plain, 'ready'), gathered.whenReady(5_000)]);

let count = 0;
const xadd = (name: string, redis: Redis): Contestant => ({
  name,
  once: () => redis.xadd(`${prefix}:plain`, '*', 'd', data, 'm', meta),
});

/** A new stream for each commit: fence, claim, version check, event, state. */
function commits(name: string, to: OpenEventStore, partitions: number): Contestant {
  return {
    name,
    async once() {
      const id = (count++).toString(36).padStart(16, '0');
      const partition = count % partitions;
      const outcome = await to.commit({
        partition,
        appends: [
          {
            streamId: streamId('job', partition, id),
            expected: { kind: 'minted' },
            events: [{ id: id as EventId, type: 'JobEnqueued', data, meta }],
            state,
          },
        ],
      });
      if (outcome.kind !== 'committed') throw new Error(outcome.kind);
    },
  };
}

const info = await plain.info('server');
reportMachine({
  redis: /redis_version:(\S+)/.exec(info)?.[1],
  appendfsync: (await plain.config('GET', 'appendfsync')) as unknown,
  eventBytes: data.length + meta.length,
});
const ours = 'commit, 16 partitions';
const results = await compare(
  'commit',
  xadd('plain XADD', plain),
  [
    commits(ours, store, 16),
    commits('commit, 4 partitions', store, 4),
    xadd('XADD, the writes of a tick gathered', gathered.redis),
  ],
  {
    rounds: values.rounds,
    seconds: values.seconds,
    concurrency: values.concurrency,
  },
);
for (const [contestant, { perSecond, ratio }] of results) {
  report({
    bench: 'commit',
    contestant,
    medianPerSecond: Math.round(perSecond),
    medianRatio: Number(ratio.toFixed(3)),
  });
}
const stats = await plain.info('commandstats');
for (const [, command, calls, perCall] of stats.matchAll(
  /cmdstat_(evalsha|xadd|set|get|hmget|getrange|hset):calls=(\d+),usec=\d+,usec_per_call=([\d.]+)/g,
)) {
  report({ redisCommand: command, calls: Number(calls), microsecondsPerCall: Number(perCall) });
}
await store.close();
plain.disconnect();
gathered.close();
await db.destroy();
finish(
  results.get(ours)?.ratio ?? Number.NaN,
  `${ours}, ${values.concurrency} at once, against plain XADD by the same client`,
);
