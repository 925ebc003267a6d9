// How fast one partition's events come into a read model of 8 columns, through the projection engine, against a loop
// written by hand for this table: the same events, the same reducer, the same batches. The loop parses without
// checking, and has no checkpoint, no fencing and no parked events.
import { createHash } from 'node:crypto';
import type { RawEvent, Recorded } from '../src/domain/event.ts';
import { codec } from '../src/domain/events.ts';
import type { EventId } from '../src/domain/ids.ts';
import { streamId } from '../src/domain/ids.ts';
import { everyJobEvent, type JobEvent } from '../src/domain/jobs/events.ts';
import { openDatabase, openPool } from '../src/eventstore/postgres.ts';
import type { Database } from '../src/projections/database.ts';
import type { JobRow } from '../src/projections/jobs/table.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { groupOf, type Projection } from '../src/projections/projection.ts';
import { createProjectionGroup } from '../src/projections/runner.ts';
import { finish, median, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'projection',
  'Events into a read model of 8 columns through the engine, against a loop written by hand.',
  {
    events: { takes: 'count', default: 150_000, help: 'events in all' },
    batch: { takes: 'count', default: 500, help: 'events of a batch' },
    rounds: { takes: 'count', default: 5, help: 'how often each contestant has its turn' },
  },
);
const { events: wanted, batch: size, rounds } = values;

type Row = Pick<JobRow, 'id' | 'owner' | 'type' | 'queue' | 'status' | 'attempts' | 'progress' | 'version'>;

/** Its table is one of the bench's own schema, which comes before the real one in the search path. */
const projection: Projection<Row, JobEvent> = {
  name: 'bench',
  version: 1,
  table: 'jobs_v2',
  columns: {
    id: 'text',
    owner: 'text',
    type: 'text',
    queue: 'text',
    status: 'text',
    attempts: 'int',
    progress: 'double precision',
    version: 'int',
  },
  handles: everyJobEvent,
  key: (event) => event.streamId,
  reduce: after,
};

const SCHEMA = 'bench_projection';
const given = process.env.DATABASE_URL;
if (given === undefined) throw new Error('run it by: npm run bench -- projection');
reportMachine({ bench: 'projection', events: wanted, batch: size, rounds });
const url = new URL(given);
url.searchParams.set('options', `-c search_path=${SCHEMA},public`);
const pool = openPool({ url: url.href, max: 1, applicationName: 'bench' });
const db = openDatabase<Database>({ url: url.href, max: 1, applicationName: 'bench' });
try {
  const migrating = openDatabase({ url: given, max: 1, applicationName: 'bench' });
  await migrateToLatest(migrating).finally(() => migrating.destroy());
  await pool.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE; CREATE SCHEMA ${SCHEMA};`);
  for (const table of ['jobs_v2', 'by_hand']) await createTable(table);
  await pool.query("INSERT INTO read_models VALUES ('bench', 1, 1, 'jobs_v2') ON CONFLICT DO NOTHING");
  await run(madeEvents());
} finally {
  await pool.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE`);
  await pool.query("DELETE FROM read_models WHERE projection = 'bench'");
  await pool.query('DELETE FROM checkpoints WHERE group_name = $1', [groupOf(projection)]);
  await pool.end();
  await db.destroy();
}

async function run(events: readonly RawEvent[]): Promise<void> {
  const batches = Array.from({ length: Math.ceil(events.length / size) }, (_, n) =>
    events.slice(n * size, (n + 1) * size),
  );
  const contestants = { 'by hand': byHand, engine };
  const names = ['by hand', 'engine'] as const;
  const rates = { 'by hand': [] as number[], engine: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      await empty();
      const begun = performance.now();
      await contestants[name](batches);
      const perSecond = Math.round(events.length / ((performance.now() - begun) / 1_000));
      if (round === 0) continue; // warms up
      rates[name].push(perSecond);
      report({ bench: 'projection', round, contestant: name, perSecond });
    }
    if (round === 0) await compareTables(batches);
  }
  const ratio = median(rates.engine.map((rate, round) => rate / (rates['by hand'][round] ?? Number.NaN)));
  const [own, hand] = [median(rates.engine), median(rates['by hand'])];
  finish(ratio, `${own} events/s through the engine against ${hand} by hand, aim 0.6`);
}

async function engine(batches: readonly (readonly RawEvent[])[]): Promise<void> {
  const group = createProjectionGroup({ db, projection, codec });
  let at = await group.open(0, 1);
  for (const batch of batches) at = await group.apply(0, at, batch, 1);
}

/** Load the rows of the batch, fold, upsert by UNNEST. */
async function byHand(batches: readonly (readonly RawEvent[])[]): Promise<void> {
  const names = Object.keys(projection.columns);
  const arrays = Object.values(projection.columns).map((type, index) => `$${index + 1}::${type}[]`);
  const changes = names.filter((name) => name !== 'id').map((name) => `${name} = excluded.${name}`);
  const upsert = {
    name: 'upsert',
    text: `INSERT INTO by_hand (${names}) SELECT * FROM unnest(${arrays}) ON CONFLICT (id) DO UPDATE SET ${changes}`,
  };
  const columns = Object.keys(projection.columns) as (keyof Row)[];
  for (const batch of batches) {
    const ids = [...new Set(batch.map((event) => event.streamId))];
    const found = await pool.query<Row>(`SELECT ${names} FROM by_hand WHERE id = ANY($1::text[])`, [ids]);
    const rows = new Map(found.rows.map((row) => [row.id, row]));
    for (const raw of batch) {
      const its = { data: JSON.parse(raw.data), meta: JSON.parse(raw.meta) };
      // Unchecked, as by hand: that it is checked is part of what the engine costs.
      const event = { ...raw, ...its } as Recorded<JobEvent>;
      rows.set(raw.streamId, after(rows.get(raw.streamId), event));
    }
    const sorted = [...rows.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
    await pool.query({ ...upsert, values: columns.map((name) => sorted.map((row) => row[name])) });
  }
}

function after(row: Row | undefined, event: Recorded<JobEvent>): Row {
  const { version } = event;
  if (event.type === 'JobEnqueued') {
    const { type, queue } = event.data;
    const owner = event.meta.owner ?? null;
    return { id: event.streamId, owner, type, queue, status: 'queued', attempts: 0, progress: 0, version };
  }
  if (!row) throw new Error(`${event.type} of a job that was never enqueued`);
  if (event.type === 'JobStarted') {
    return { ...row, status: 'running', attempts: event.data.attempt, version };
  }
  if (event.type === 'JobCompleted') return { ...row, status: 'succeeded', progress: 100, version };
  return { ...row, version };
}

async function createTable(name: string): Promise<void> {
  const columns = Object.entries(projection.columns)
    .filter(([column]) => column !== 'id')
    .map(([column, type]) => `${column} ${type}`);
  await pool.query(
    `CREATE TABLE ${SCHEMA}.${name} (id text COLLATE "C" PRIMARY KEY, ${columns}) WITH (fillfactor = 80)`,
  );
}

async function empty(): Promise<void> {
  await pool.query(`TRUNCATE ${SCHEMA}.jobs_v2, ${SCHEMA}.by_hand`);
  await pool.query('DELETE FROM checkpoints WHERE group_name = $1', [groupOf(projection)]);
}

/** Whoever is fast because rows are missing must not win. */
async function compareTables(batches: readonly (readonly RawEvent[])[]): Promise<void> {
  await empty();
  await engine(batches);
  await byHand(batches);
  const names = Object.keys(projection.columns);
  const { rows } = await pool.query<{ rows: number; same: number }>(
    `SELECT (SELECT count(*) FROM by_hand) AS rows, (SELECT count(*) FROM
       (SELECT ${names} FROM by_hand INTERSECT SELECT ${names} FROM ${SCHEMA}.jobs_v2) AS shared) AS same`,
  );
  const jobs = new Set(batches.flat().map((event) => event.streamId)).size;
  const [counted] = rows;
  if (Number(counted?.rows) !== jobs || Number(counted?.same) !== jobs) {
    throw new Error(`of ${jobs} rows the loop made ${counted?.rows}, and ${counted?.same} are the same`);
  }
}

/** Jobs in waves of 200: enqueued, started, completed, so that some rows change in one batch and some in two. */
function madeEvents(): RawEvent[] {
  const payload = { text: 'x'.repeat(80) };
  const type = 'echo';
  const spec = { type, payload, queue: 'default', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 };
  const steps = [
    ['JobEnqueued', spec],
    ['JobStarted', { type, attempt: 1, worker: 'worker-1#0123456789ab', recovered: false }],
    ['JobCompleted', { type, attempt: 1, result: payload }],
  ] as const;
  const meta = { schema: 1, at: '2026-11-20T12:34:56.789Z', actor: 'a1', owner: 'a1', correlation: 'c0ffee' };
  const texts = steps.map(([name, data]) => ({ type: name, data: JSON.stringify(data) }));
  const common = { partition: 0, epoch: 1, meta: JSON.stringify(meta) };
  return Array.from({ length: wanted }, (_, n) => {
    const [wave, inWave] = [Math.floor(n / 600), n % 600];
    const step = Math.floor(inWave / 200);
    const unique = createHash('sha256')
      .update(`${wave}/${inWave % 200}`)
      .digest('hex')
      .slice(0, 24);
    const text = texts[step] ?? { type: '', data: '' };
    const id = `e${n + 1}` as EventId;
    return { ...common, ...text, seq: n + 1, id, streamId: streamId('job', 0, unique), version: step + 1 };
  });
}
