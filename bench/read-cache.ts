// Single jobs read again and again, 64 readers at once from one Node process: from Postgres by the pool of an API process,
// and from the read cache: jobs of each reader's own (which single flight does not help), one for all, and each for the
// first time, which is what the cache costs who does not read twice.
import { createReadCache } from '../src/access/read-cache.ts';
import { createCachedReads } from '../src/app/cached-reads.ts';
import { type JobId, streamId } from '../src/domain/ids.ts';
import { connectReader } from '../src/eventstore/connections.ts';
import { openDatabase } from '../src/eventstore/postgres.ts';
import type { Database } from '../src/projections/database.ts';
import { findJob } from '../src/projections/jobs/queries.ts';
import { projection } from '../src/projections/jobs/table.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { groupOf } from '../src/projections/projection.ts';
import { createReading, NOTHING_WANTED } from '../src/projections/reading.ts';
import { compare, finish, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'read-cache',
  'Single jobs from the read cache, against Postgres by the same process.',
  {
    seconds: { takes: 'number', default: 2, help: 'how long a turn lasts' },
    rounds: { takes: 'count', default: 5, help: 'how often each contestant has its turn' },
    concurrency: { takes: 'count', default: 64, help: 'how many readers at once', most: 1_024 },
  },
);
const { seconds, rounds, concurrency } = values;
const { DATABASE_URL: url, REDIS_URL: redisUrl } = process.env;
if (url === undefined || redisUrl === undefined) throw new Error('run it by: npm run bench -- read-cache');

const OWNER = 'acc-00bench';
const JOBS = 1_024;
/** A reader's own: what two ask for at once is read once. */
const EACH = Math.floor(JOBS / concurrency);
const ids = Array.from(
  { length: JOBS },
  (_, n): JobId => streamId('job', 0, `bench${String(n).padStart(15, '0')}`),
);

const db = openDatabase<Database>({ url, max: 10, applicationName: 'bench' });
await migrateToLatest(db);
await fill();
const connection = connectReader({ url: redisUrl, name: 'bench-cache' });
await connection.whenReady(5_000);
const reading = createReading({ db, waitFor: async () => 'reached', alsoElsewhere: true });
const over = (name: string) =>
  createCachedReads({ cache: createReadCache(connection.redis, name, 10_000), reading, onLook() {} })({
    projection,
    find: findJob,
    keeps: () => true,
  });
const cached = over('bench');
/** Numbers caches in which nothing was ever asked for. */
let fresh = 0;

reportMachine({ jobs: JOBS, concurrency });
const one = (n: number) => ids[n % JOBS] ?? ids[0] ?? '';
const found = async (answer: Promise<unknown>) => {
  if ((await answer) === undefined) throw new Error('a job was not found');
};
const results = await compare(
  'read-cache',
  {
    name: 'Postgres',
    once: (worker, turn) =>
      found(
        reading({ projection }, NOTHING_WANTED, (from) =>
          findJob(from, one(worker * EACH + (turn % EACH)), OWNER),
        ),
      ),
  },
  [
    {
      name: 'cache, jobs of one’s own',
      once: (worker, turn) => found(cached(one(worker * EACH + (turn % EACH)), OWNER, NOTHING_WANTED)),
    },
    {
      name: 'cache, nothing is ever read twice',
      once: (worker, turn) =>
        found(over(`bench-${fresh++}`)(one(worker * EACH + turn), OWNER, NOTHING_WANTED)),
    },
    { name: 'cache, one job for all', once: () => found(cached(one(0), OWNER, NOTHING_WANTED)) },
  ],
  { rounds, concurrency, seconds },
);
for (const [contestant, result] of results) report({ contestant, ...result });
connection.close();
await db.destroy();
const inVain = results.get('cache, nothing is ever read twice')?.ratio ?? 0;
finish(
  results.get('cache, jobs of one’s own')?.ratio ?? 0,
  `of reads from the cache to reads from Postgres; ${inVain.toFixed(2)} where each look is in vain`,
);

async function fill(): Promise<void> {
  const at = new Date();
  await db.deleteFrom('jobs_v2').where('owner', '=', OWNER).execute();
  await db
    .insertInto('jobs_v2')
    .values(
      ids.map((id) => ({
        ...{
          id,
          owner: OWNER,
          type: 'echo',
          queue: 'default',
          priority: 'normal' as const,
          status: 'succeeded' as const,
        },
        ...{
          ordering_key: null,
          concurrency_key: null,
          callback_url: null,
          lane: null,
          attempts: 1,
          progress: 100,
        },
        ...{
          result: JSON.stringify({ some: 'thing', of: 'a usual size', more: 'x'.repeat(200) }),
          error: null,
          reason: null,
        },
        ...{
          discarded: false,
          worker: 'w',
          due_at: at,
          in_lane: null,
          on_timer: false,
          trace_id: null,
          version: 3,
        },
        ...{ created_at: at, started_at: at, finished_at: at },
      })),
    )
    .execute();
  await db
    .insertInto('checkpoints')
    .values({ group_name: groupOf(projection), partition: 0, epoch: 1, seq: 7, event_id: 'e' })
    .onConflict((conflict) => conflict.columns(['group_name', 'partition']).doNothing())
    .execute();
}
