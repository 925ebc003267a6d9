// How fast a ledger and a read model are verified: its hash chain and streams, and the fold of all jobs, against
// reading the same rows in order and doing nothing with them. Three events a job, as they are in life.
import { createHash, randomBytes } from 'node:crypto';
import { createLedger } from '../src/consumers/ledger.ts';
import type { RawEvent } from '../src/domain/event.ts';
import { codec } from '../src/domain/events.ts';
import type { EventId } from '../src/domain/ids.ts';
import { streamId } from '../src/domain/ids.ts';
import { openDatabase, openPool } from '../src/eventstore/postgres.ts';
import { collectFindings } from '../src/eventstore/verify/findings.ts';
import { verifyLedger } from '../src/eventstore/verify/ledger.ts';
import type { Database } from '../src/projections/database.ts';
import { projection } from '../src/projections/jobs/table.ts';
import { migrateToLatest } from '../src/projections/migrate.ts';
import { createProjectionGroup } from '../src/projections/runner.ts';
import { verifyProjection } from '../src/projections/verify/verify.ts';
import { finish, median, readOptions, report, reportMachine } from './harness.ts';

const values = readOptions(
  'verify',
  'The hash chain of a ledger and the fold of a read model, against reading the same rows.',
  {
    events: { takes: 'count', default: 300_000, help: 'events in the ledger' },
    rounds: { takes: 'count', default: 3, help: 'how often each contestant has its turn' },
  },
);
const { events: wanted, rounds } = values;
const PARTITIONS = 4;
const BATCH = 600;
/** The aim: the ledger is verified at half the speed at which it can be read. */
const AIM = 0.5;

const url = process.env.DATABASE_URL;
if (url === undefined) throw new Error('run it by: npm run bench -- verify');
reportMachine({ bench: 'verify', events: wanted });
const options = {
  url,
  max: 4,
  applicationName: 'bench',
  statementTimeoutMs: 0,
  idleInTransactionTimeoutMs: 0,
};
const db = openDatabase<Database>(options);
const pool = openPool(options);
try {
  await migrateToLatest(db);
  await fill();
  const contestants = { read, ledger, jobs };
  const rates = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    const names = Object.keys(contestants) as (keyof typeof contestants)[];
    for (const [index] of names.entries()) {
      const name = names[(index + round) % names.length] ?? 'read';
      const begun = performance.now();
      const events = await contestants[name]();
      const perSecond = Math.round(events / ((performance.now() - begun) / 1000));
      rates.set(name, [...(rates.get(name) ?? []), perSecond]);
      report({ bench: 'verify', round, contestant: name, events, perSecond });
    }
  }
  const ratios = (name: string) =>
    median((rates.get(name) ?? []).map((rate, round) => rate / (rates.get('read')?.[round] ?? Number.NaN)));
  const heap = Math.round(process.memoryUsage().rss / 2 ** 20);
  report({ bench: 'verify', ledgerToRead: ratios('ledger'), jobsToRead: ratios('jobs'), rssMb: heap });
  finish(
    ratios('ledger') / AIM,
    `of the aim: the ledger verified at ${ratios('ledger').toFixed(2)} of reading it`,
  );
} finally {
  await pool.end();
  await db.destroy();
}

/** As by hand: pages of the table in the order of its key, nothing between pg and the loop. */
async function read(): Promise<number> {
  const text =
    'SELECT partition, epoch, seq, event_id, stream_id, version, type, data, meta FROM ledger WHERE partition = $1 AND seq > $2 ORDER BY seq LIMIT 2000';
  let events = 0;
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (let after = 0; ; ) {
      const { rows } = await pool.query<{ seq: number }>({ name: 'read', text, values: [partition, after] });
      const last = rows.at(-1);
      if (!last) break;
      events += rows.length;
      after = last.seq;
    }
  }
  return events;
}

async function ledger(): Promise<number> {
  const findings = collectFindings();
  const events = await verifyLedger(db, PARTITIONS, findings);
  if (findings.count() > 0) throw new Error(JSON.stringify(findings.first()[0]));
  return events;
}

async function jobs(): Promise<number> {
  const findings = collectFindings();
  const { events } = await verifyProjection(db, projection, codec, findings);
  if (findings.count() > 0) throw new Error(JSON.stringify(findings.first()[0]));
  return events;
}

async function fill(): Promise<void> {
  const groups = [createLedger(pool, db), createProjectionGroup({ db, projection, codec })];
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const at = await Promise.all(groups.map((group) => group.open(partition, 1)));
    for (let seq = 1; seq <= wanted / PARTITIONS; seq += BATCH) {
      const batch = Array.from({ length: BATCH / 3 }, (_, n) => jobOf(partition, seq + 3 * n)).flat();
      for (const [index, group] of groups.entries()) {
        const from = at[index];
        if (from) at[index] = await group.apply(partition, from, batch, 1);
      }
    }
  }
}

function jobOf(partition: number, seq: number): RawEvent[] {
  const id = streamId(
    'job',
    partition,
    createHash('sha256').update(`${partition}/${seq}`).digest('hex').slice(0, 24),
  );
  const type = 'echo';
  const payload = { text: randomBytes(60).toString('base64') };
  const enqueued = {
    type,
    payload,
    queue: 'default',
    priority: 'normal',
    maxAttempts: 3,
    timeoutSeconds: 60,
  };
  const started = { type, attempt: 1, worker: 'worker-1#0123456789ab', recovered: false };
  const data = [
    ['JobEnqueued', enqueued],
    ['JobStarted', started],
    ['JobCompleted', { type, attempt: 1, result: payload }],
  ] as const;
  const meta = {
    schema: 1,
    at: '2026-11-20T12:34:56.789Z',
    actor: 'acc-1',
    owner: 'acc-1',
    correlation: 'c0ffee',
  };
  return data.map(([name, its], index) => ({
    partition,
    epoch: 1,
    seq: seq + index,
    id: randomBytes(12).toString('hex') as EventId,
    streamId: id,
    version: index + 1,
    type: name,
    data: JSON.stringify(its),
    meta: JSON.stringify(meta),
  }));
}
