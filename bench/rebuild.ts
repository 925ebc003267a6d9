// How fast a read model is made anew beside the one that is read: a million events of 50,000 jobs in 16 partitions, from
// the ledger into a table with its indexes, until it is live. Another thread queries all the while, and says how long its
// slowest query took.
import { Worker } from 'node:worker_threads';
import { sql } from 'kysely';
import { createPace, inTurns } from '../src/app/pace.ts';
import { codec } from '../src/domain/events.ts';
import { openDatabase } from '../src/eventstore/postgres.ts';
import type { Database } from '../src/projections/database.ts';
import type { RebuildPhase } from '../src/projections/generations.ts';
import { projection } from '../src/projections/jobs/table.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { driveRebuilds } from '../src/projections/rebuild/drive.ts';
import { createRebuildGroup } from '../src/projections/rebuild/group.ts';
import { beginRebuild } from '../src/projections/rebuild/rebuilds.ts';
import { finish, median, readOptions, report, reportMachine } from './harness.ts';
import { fillLedger } from './rebuild/ledger.ts';
import type { Read } from './rebuild/reader.ts';

const values = readOptions(
  'rebuild',
  'A read model made anew beside the one that is read, and what queries feel of it.',
  {
    jobs: { takes: 'count', default: 50_000, help: 'jobs in the ledger, of 20 events each' },
    rounds: { takes: 'count', default: 3, help: 'how many rebuilds' },
    'at-once': { takes: 'count', default: 2, help: 'partitions that are filled at once' },
  },
);
const { jobs, rounds, 'at-once': atOnce } = values;
const PARTITIONS = 16;
const EVENTS_OF_A_JOB = 20;
/** Events a second. */
const AIM = 50_000;

const url = process.env.DATABASE_URL;
if (url === undefined) throw new Error('run it by: npm run bench -- rebuild');
const events = jobs * EVENTS_OF_A_JOB;
reportMachine({ bench: 'rebuild', events, jobs, partitions: PARTITIONS });
const open = (max: number) =>
  openDatabase<Database>({ url, max, applicationName: 'bench', statementTimeoutMs: 0 });
const [db, slow] = [open(8), open(2)];
try {
  await migrateToLatest(db);
  await fillLedger(db, { partitions: PARTITIONS, jobs, eventsOfAJob: EVENTS_OF_A_JOB });
  await rebuilt(); // warms up, and gives queries something to find
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const reader = new Worker(new URL('./rebuild/reader.ts', import.meta.url), { workerData: { url } });
    await new Promise((resolve) => reader.once('message', resolve));
    const { seconds, filledSeconds, rssMb } = await rebuilt();
    reader.postMessage('stop');
    const read = await new Promise<Read>((resolve) => reader.once('message', resolve));
    rates.push(events / seconds);
    const perSecond = Math.round(events / seconds);
    report({
      bench: 'rebuild',
      round,
      perSecond,
      filledPerSecond: Math.round(events / filledSeconds),
      rssMb,
      ...read,
    });
  }
  const rate = Math.round(median(rates));
  finish(rate / AIM, `of the aim: ${rate} events/s until the new table is live, aim ${AIM}`);
} finally {
  await slow.destroy();
  await db.destroy();
}

/** One rebuild, as a process of projectors does it. */
async function rebuilt(): Promise<{ seconds: number; filledSeconds: number; rssMb: number }> {
  const begun = performance.now();
  const since = () => (performance.now() - begun) / 1_000;
  const rebuild = await beginRebuild(db, projection, {
    ...{ partitions: PARTITIONS, by: 'bench', reason: 'to measure', dropsPrevious: true },
  });
  let phase: RebuildPhase | undefined = 'filling';
  let filledSeconds = 0;
  let rssMb = 0;
  const group = createRebuildGroup({
    ...{ db, projection, codec, rebuild, phase: () => phase, turn: inTurns(atOnce), pace: createPace().pace },
  });
  const filling = Promise.all(
    Array.from({ length: PARTITIONS }, async (_, partition) => {
      const from = await group.open(partition, 1);
      await group.fill?.(partition, from, 1, new AbortController().signal);
    }),
  );
  const heads = async () => Array.from({ length: PARTITIONS }, () => events / PARTITIONS);
  while (phase !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    rssMb = Math.max(rssMb, Math.round(process.memoryUsage.rss() / 2 ** 20));
    const active = await driveRebuilds({
      db,
      slow,
      projections: [projection],
      heads,
      signal: new AbortController().signal,
      onSwapped: () => {},
    });
    phase = active[0]?.phase;
    if (phase === 'indexing' && filledSeconds === 0) filledSeconds = since();
  }
  const seconds = since();
  await filling;
  const { rows } = await sql<{ rows: number }>`SELECT count(*)::int AS rows FROM jobs_v2`.execute(db);
  if (rows[0]?.rows !== jobs) throw new Error(`${rows[0]?.rows} rows instead of ${jobs}`);
  return { seconds, filledSeconds, rssMb };
}
