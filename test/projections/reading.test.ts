import { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, expect, inject, onTestFinished, test } from 'vitest';
import type { Position } from '../../src/domain/position.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { openReplicas, type Replicas } from '../../src/eventstore/replicas.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { projection } from '../../src/projections/accounts.ts';
import type { Database } from '../../src/projections/database.ts';
import { groupOf } from '../../src/projections/projection.ts';
import { createReading, NotIncludedError, type Reading, type Wanted } from '../../src/projections/reading.ts';
import { waitUntil } from '../support/installation.ts';
import { type OwnPostgres, ownPostgres } from '../support/own-postgres.ts';

const PARTITION = 1;
const about = { projection, partitions: [PARTITION] };
const at = (seq: number, epoch = 1): Position => ({ partition: PARTITION, epoch, seq });
const undo: (() => Promise<void>)[] = [];

let primary: OwnPostgres;
let replica: OwnPostgres;
let db: Kysely<Database>;
let replicas: Replicas<Database>;
let reading: Reading;
const reads: string[] = [];
let seq = 0;

beforeAll(async () => {
  const servers = await ownPostgres(1, (step) => undo.push(step));
  const [first] = servers.replicas;
  if (!first) throw new Error('there is no replica');
  [primary, replica] = [servers.primary, first];
  db = openDatabase({ url: primary.url, max: 4, applicationName: 'test' });
  undo.push(() => db.destroy());
  replicas = openReplicas({
    urls: [replica.url],
    primaryUrl: primary.url,
    max: 4,
    applicationName: 'test',
    maxLagMs: 600,
  });
  undo.push(() => replicas.close());
  const subscriber = new Redis(inject('redisUrl'));
  const waits = createCheckpointWaits({ subscriber, db, prefix: 'reading-test', pollMs: 20 });
  undo.push(async () => {
    waits.close();
    subscriber.disconnect();
  });
  reading = createReading({
    db,
    waitFor: waits.waitFor,
    replicas,
    onRead: (_, from) => reads.push(from),
    onMiss: (_, because) => reads.push(because),
  });
  await primary.query(`
    INSERT INTO epochs (partition, epoch, first_seq, run_id) VALUES (${PARTITION}, 1, 1, 'r');
    INSERT INTO checkpoints (group_name, partition, epoch) VALUES ('${groupOf(projection)}', ${PARTITION}, 1);
    INSERT INTO accounts_v1 VALUES ('acc', '', '', 'user', 0, now())`);
});
afterAll(async () => {
  for (const step of undo.reverse()) await step();
});
beforeEach(async () => {
  await replica.query('SELECT pg_wal_replay_resume()');
  await advance();
  await replayed();
  await waitUntil(() => replicas.fit(true).length === 1, 'the replica to be well');
  reads.length = 0;
});

/** What a projector does: a row and its checkpoint, in one transaction. */
async function advance(): Promise<void> {
  seq += 1;
  await primary.query(`
    UPDATE accounts_v1 SET version = ${seq};
    UPDATE checkpoints SET seq = ${seq}, event_id = 'e${seq}'`);
}

async function replayed(): Promise<void> {
  const sees = async () =>
    (await replica.query<{ version: number }>('SELECT version FROM accounts_v1'))[0]?.version;
  await waitUntil(async () => (await sees()) === seq, 'the replica to replay it');
}

function wanting(...positions: Position[]): Wanted & { answered: (readonly Position[])[] } {
  const answered: (readonly Position[])[] = [];
  const { signal } = new AbortController();
  return { positions, timeoutMs: 500, signal, answered, onAnswer: (to) => answered.push(to) };
}

const version = async (from: Kysely<Database>) =>
  (await from.selectFrom('accounts_v1').select('version').executeTakeFirst())?.version;

test('a query goes to a replica that includes what it has to, and its answer says how far it is', async () => {
  const wanted = wanting(at(seq));
  expect(await reading(about, wanted, version)).toBe(seq);
  expect(reads).toEqual(['replica']);
  expect(wanted.answered).toEqual([[at(seq)]]);
});

test('what a replica does not include yet comes from the primary', async () => {
  await replica.query('SELECT pg_wal_replay_pause()');
  await advance();
  const wanted = wanting(at(seq));
  expect(await reading(about, wanted, version)).toBe(seq);
  expect(reads).toEqual(['behind', 'primary']);
  expect(wanted.answered).toEqual([[at(seq)]]);
});

test('the checkpoint is that of the snapshot that the rows are read in', async () => {
  const wanted = wanting(at(seq));
  const before = seq;
  const found = await reading(about, wanted, async (from) => {
    await advance();
    await replayed();
    return version(from);
  });
  expect(reads).toEqual(['replica']);
  expect(found).toBe(before);
  expect(wanted.answered).toEqual([[at(before)]]);
});

test('who brings what an answer said is never shown anything older', async () => {
  await replica.query('SELECT pg_wal_replay_pause()');
  const first = wanting(at(seq));
  await advance();
  const newest = await reading(about, { ...first, newest: true }, version);
  expect(newest).toBe(seq);
  // The replica includes what the caller wrote, and not what the primary has shown since.
  expect(await reading(about, wanting(...first.answered.flat()), version)).toBe(newest);
  expect(reads).toEqual(['primary', 'behind', 'primary']);
});

test('a rebuilt read model that goes live while somebody begins to read is read whole, with its checkpoint', async () => {
  const asking = await db.transaction().execute(async (trx) => {
    // What a swap does: nobody reads the view meanwhile.
    await sql`LOCK TABLE accounts_v1 IN ACCESS EXCLUSIVE MODE`.execute(trx);
    const { wanted, found } = { wanted: wanting(), found: Promise.withResolvers<number | undefined>() };
    reading(about, { ...wanted, newest: true, exact: true }, version).then(found.resolve, found.reject);
    const waits = 'SELECT FROM pg_locks WHERE NOT granted';
    await waitUntil(async () => (await primary.query(waits)).length > 0, 'the reader to wait');
    await sql`CREATE TABLE accounts_v1_g2 AS SELECT * FROM accounts_v1_g1`.execute(trx);
    await sql`UPDATE accounts_v1_g2 SET version = version + 1`.execute(trx);
    await sql`UPDATE checkpoints SET seq = seq + 1`.execute(trx);
    await sql`CREATE OR REPLACE VIEW accounts_v1 AS SELECT * FROM accounts_v1_g2`.execute(trx);
    return { wanted, found: found.promise };
  });
  seq += 1;
  expect(await asking.found).toBe(seq);
  expect(asking.wanted.answered).toEqual([[at(seq)]]);
});

test('what is parked, lost or does not come is said, whoever could have answered', async () => {
  await primary.query(`INSERT INTO parked_events (group_name, partition, seq, epoch, row_key, error)
    VALUES ('${groupOf(projection)}', ${PARTITION}, ${seq}, 1, 'k', 'e')`);
  await advance();
  await replayed();
  const outcome = async (position: Position) => {
    const error = await reading(about, wanting(position), version).catch((thrown: unknown) => thrown);
    return error instanceof NotIncludedError ? error.outcome : error;
  };
  expect(await outcome(at(seq - 1))).toBe('parked');
  expect(await outcome(at(seq, 7))).toBe('lost');
  expect(await outcome(at(seq + 1))).toBe('behind');
  expect(await outcome(at(seq))).toBe(seq);
});

test('who brings what an answer said is answered, also where the last events that were read could not be applied', async () => {
  const last = seq;
  for (let parked = 1; parked <= 2; parked++) {
    await advance();
    await primary.query(`INSERT INTO parked_events (group_name, partition, seq, epoch, row_key, error)
      VALUES ('${groupOf(projection)}', ${PARTITION}, ${seq}, 1, 'k', 'e')`);
  }
  await replayed();
  const first = wanting(at(last));
  await reading(about, first, version);
  expect(first.answered).toEqual([[at(last)]]);
  expect(await reading(about, wanting(...first.answered.flat()), version)).toBe(seq);
});

test('without a position it goes to a replica that is not too far behind, else to the primary', async () => {
  expect(await reading(about, wanting(), version)).toBe(seq);
  await replica.query('SELECT pg_wal_replay_pause()');
  await advance();
  await waitUntil(() => replicas.fit(true).length === 0, 'the replica to be too far behind');
  expect(await reading(about, wanting(), version)).toBe(seq);
  expect(reads).toEqual(['replica', 'primary']);
});

test('a query that the replica cancels, as what it reads is vacuumed away, is answered by the primary', async () => {
  const wanted = wanting(at(seq));
  let asked = 0;
  const found = await reading(about, wanted, async (from) => {
    asked += 1;
    if (asked > 1) return version(from);
    await version(from);
    await advance();
    await primary.query('VACUUM accounts_v1_g2');
    // Cancelled while it waits: what it may still need is to go.
    await sql`SELECT pg_sleep(5), version FROM accounts_v1`.execute(from);
    return version(from);
  });
  expect(found).toBe(seq);
  expect(reads).toEqual(['failed', 'primary']);
});

test('a query whose connection the replica ends in the middle is answered by the primary', async () => {
  const found = await reading(about, wanting(at(seq)), async (from) => {
    const { rows } = await sql<{ pid: number }>`
      SELECT pg_backend_pid() AS pid WHERE pg_is_in_recovery()`.execute(from);
    const [backend] = rows;
    // An administrator's command, as at a fast shutdown: SQLSTATE 57P01.
    if (backend) await replica.query(`SELECT pg_terminate_backend(${backend.pid}, 5000)`);
    return version(from);
  });
  expect(found).toBe(seq);
  expect(reads).toEqual(['failed', 'primary']);
});

test('who does not get to read in time leaves no connection behind on which the next one fails', async () => {
  const few = openDatabase<Database>({
    ...{ url: primary.url, max: 1, applicationName: 'test', lockTimeoutMs: 100 },
  });
  onTestFinished(() => few.destroy());
  const patient = createReading({ db: few, waitFor: async () => 'reached' });
  const exactly = { ...wanting(), exact: true as const };
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE accounts_v1 IN ACCESS EXCLUSIVE MODE`.execute(trx);
    await expect(patient(about, exactly, version)).rejects.toMatchObject({ code: '55P03' });
  });
  expect(await version(few)).toBe(seq);
  expect(await patient(about, exactly, version)).toBe(seq);
});

test('of several replicas one that is slow holds a query up for a second, and the others are not tried after it', async () => {
  const same = {
    name: 'one',
    db: openDatabase<Database>({ url: replica.url, max: 4, applicationName: 'test' }),
  };
  onTestFinished(() => same.db.destroy());
  const asked: string[] = [];
  const several = createReading({
    db,
    waitFor: async () => 'reached',
    replicas: { fit: () => [same, same, same], doubt: () => {} },
    onMiss: (_, because) => asked.push(because),
  });
  const found = await several(about, wanting(), async (from) => {
    await sql`SELECT pg_sleep(CASE WHEN pg_is_in_recovery() THEN 4 ELSE 0 END)`.execute(from);
    return version(from);
  });
  expect(found).toBe(seq);
  expect(asked).toEqual(['slow']);
});

test('a replica that hangs holds nobody up, and one that dies fails nobody', async () => {
  replica.pause();
  onTestFinished(() => replica.resume());
  const began = performance.now();
  expect(await reading(about, wanting(at(seq)), version)).toBe(seq);
  expect(performance.now() - began).toBeLessThan(5_000); // a second, and the machine may be slow
  expect(reads.at(-1)).toBe('primary');
  replica.resume();
  await waitUntil(() => replicas.fit(true).length === 1, 'the replica to be well');

  const asking = reading(about, wanting(at(seq)), async (from) => {
    await sql`SELECT pg_sleep(0.3)`.execute(from);
    return version(from);
  });
  await replica.kill();
  expect(await asking).toBe(seq);
  expect(reads.slice(-2)).toEqual(['failed', 'primary']);
  await replica.start();
});
