import { sql } from 'kysely';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { ArchivedError, type ArchiveFiles, createArchives } from '../../src/eventstore/archive/archives.ts';
import { archivesIn } from '../../src/eventstore/archive/list.ts';
import { ArchiveRefusedError } from '../../src/eventstore/archive/register.ts';
import { archiveLedger } from '../../src/eventstore/archive/write.ts';
import { countLedger, readLedger, readStream } from '../../src/eventstore/ledger-read.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { Checkpoint } from '../../src/eventstore/types.ts';
import { collectFindings } from '../../src/eventstore/verify/findings.ts';
import { verifyLedger } from '../../src/eventstore/verify/ledger.ts';
import { createWorld } from '../support/world.ts';

const BATCHES = 12;
const A_BATCH = 5;
const EVENTS = BATCHES * A_BATCH;
const STREAMS = 7;
const OPTIONS = { keepEvents: 0, fileEvents: 15, by: 'test', reason: 'to see' } as const;

/** Seven streams of two owners, whose events lie between one another's. */
function event(seq: number): RawEvent {
  const owner = seq % 2 === 0 ? 'acc-even' : 'acc-odd';
  return {
    partition: 0,
    epoch: 1,
    seq,
    id: `event-${seq}` as EventId,
    streamId: `job-00stream${seq % STREAMS}` as StreamId,
    version: Math.ceil(seq / STREAMS),
    type: 'JobProgressed',
    data: `{"n": ${seq},  "x":"é\\u0041\\u2028 "}`,
    meta: JSON.stringify({ schema: 1, at: '2026-11-20T12:34:56.789Z', actor: 'a', owner, correlation: 'c' }),
  };
}

function memoryFiles() {
  const files = new Map<string, Uint8Array>();
  const store: ArchiveFiles = {
    async write(file, bytes) {
      files.set(file, bytes);
    },
    async read(file) {
      const bytes = files.get(file);
      if (!bytes) throw new Error(`no file ${file}`);
      return bytes;
    },
  };
  return { files, store };
}

async function ledgerOfSixty() {
  const world = await createWorld();
  const pool = openPool({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(async () => {
    await pool.end();
    await world.dispose();
  });
  const { db } = world;
  const ledger = createLedger(pool, db);
  let at: Checkpoint = await ledger.open(0, 1);
  const take = async (events: RawEvent[]) => {
    at = await ledger.apply(0, at, events, 1);
  };
  // In the order in which a stream's versions are dense: 1 … 60.
  for (let batch = 0; batch < BATCHES; batch++) {
    await take(Array.from({ length: A_BATCH }, (_, n) => event(batch * A_BATCH + n + 1)));
  }
  const { files, store } = memoryFiles();
  const archives = createArchives(store);
  const findings = async () => {
    const found = collectFindings();
    const events = await verifyLedger(db, 1, found, createArchives(store));
    return { events, kinds: found.first().map(({ kind }) => kind) };
  };
  const rows = async () => (await db.selectFrom('ledger').select('seq').orderBy('seq').execute()).length;
  return { db, files, store, archives, findings, rows, take };
}

type World = Awaited<ReturnType<typeof ledgerOfSixty>>;

/** All that can be asked, whole and in pages that end anywhere. */
async function everything({ db, archives }: Pick<World, 'db' | 'archives'>) {
  const pages = async (limit: number, more: { owner?: string; upTo?: number } = {}) => {
    const found: RawEvent[] = [];
    for (;;) {
      const page = await readLedger(
        db,
        { partition: 0, after: found.at(-1)?.seq ?? 0, limit, ...more },
        archives,
      );
      if (page.length === 0) return found;
      expect(page.length).toBeLessThanOrEqual(limit);
      found.push(...page);
    }
  };
  const stream = 'job-00stream3' as StreamId;
  return {
    all: await pages(1_000),
    small: await pages(4),
    even: await pages(7, { owner: 'acc-even' }),
    some: await pages(7, { upTo: 41 }),
    ofOdd: await countLedger(db, { limits: [EVENTS], owner: 'acc-odd' }),
    stream: await readStream(db, stream, {}, archives),
    after: await readStream(db, stream, { after: 2, limit: 4 }, archives),
    last: await readStream(db, stream, { after: 7 }, archives),
    none: await readStream(db, 'job-00nobody' as StreamId, {}, archives),
  };
}

describe('A part of the ledger that was archived', () => {
  it('is read as before: by seq, by owner and by stream, in pages of any size', async () => {
    const world = await ledgerOfSixty();
    const before = await everything(world);
    expect(before.all).toHaveLength(EVENTS);
    const done = await archiveLedger(world.db, world.store, OPTIONS);
    expect(done.map(({ first_seq, last_seq }) => [first_seq, last_seq])).toEqual([
      [1, 15],
      [16, 30],
      [31, 45],
      [46, 55],
    ]);
    expect(await world.rows()).toBe(5);
    expect(await everything(world)).toEqual(before);
    // Once more, with what is known by now of where to look first.
    expect(await everything(world)).toEqual(before);
    expect(await world.findings()).toEqual({ events: EVENTS, kinds: [] });
  });

  it('is followed by what comes after, which is archived the next time', async () => {
    const world = await ledgerOfSixty();
    await archiveLedger(world.db, world.store, { ...OPTIONS, keepEvents: 30 });
    expect(await world.rows()).toBe(30);
    await world.take([event(61), event(62)]);
    await archiveLedger(world.db, world.store, OPTIONS);
    expect(await world.rows()).toBe(2);
    expect((await everything(world)).all).toEqual(Array.from({ length: 62 }, (_, n) => event(n + 1)));
    expect((await world.findings()).kinds).toEqual([]);
    expect(await archiveLedger(world.db, world.store, OPTIONS)).toEqual([]);
  });

  it('goes up to a time or a position, in whole batches', async () => {
    const world = await ledgerOfSixty();
    await archiveLedger(world.db, world.store, { ...OPTIONS, before: new Date(Date.now() - 3_600_000) });
    expect(await world.rows()).toBe(EVENTS);
    await archiveLedger(world.db, world.store, { ...OPTIONS, below: { partition: 1, seq: 100 } });
    expect(await world.rows()).toBe(EVENTS);
    await archiveLedger(world.db, world.store, { ...OPTIONS, below: { partition: 0, seq: 23 } });
    expect(await world.rows()).toBe(EVENTS - 20);
  });

  it('is an error for who was not told where files lie, and never left out', async () => {
    const { db, store } = await ledgerOfSixty();
    await archiveLedger(db, store, OPTIONS);
    await expect(readLedger(db, { partition: 0, after: 0, limit: 10 })).rejects.toThrow(ArchivedError);
    await expect(readStream(db, 'job-00stream3' as StreamId)).rejects.toThrow(ArchivedError);
    expect(await readLedger(db, { partition: 0, after: 55, limit: 10 })).toHaveLength(5);
  });
});

describe('Archiving that was cut off', () => {
  it('before a file was whole leaves the ledger as it was', async () => {
    const world = await ledgerOfSixty();
    const before = await everything(world);
    const broken: ArchiveFiles = {
      ...world.store,
      async write(file, bytes) {
        await world.store.write(file, bytes.subarray(0, bytes.length / 2));
      },
    };
    await expect(archiveLedger(world.db, broken, OPTIONS)).rejects.toThrow(ArchiveRefusedError);
    expect(await world.rows()).toBe(EVENTS);
    expect(await archivesIn(world.db)).toEqual([]);
    expect(await everything(world)).toEqual(before);
    await archiveLedger(world.db, world.store, OPTIONS);
    expect(await everything(world)).toEqual(before);
  });

  it.each([
    ['before any row had left the table', 1],
    ['after some of its rows had left the table', 8],
  ])('%s loses and doubles nothing, and is ended by the next', async (_, from) => {
    const world = await ledgerOfSixty();
    const before = await everything(world);
    await sql`CREATE TABLE kept AS TABLE ledger`.execute(world.db);
    await archiveLedger(world.db, world.store, { ...OPTIONS, below: { partition: 0, seq: 16 } });
    await sql`INSERT INTO ledger SELECT * FROM kept WHERE seq BETWEEN ${from} AND 15`.execute(world.db);
    await sql`UPDATE ledger_archives SET emptied_at = NULL`.execute(world.db);
    expect(await everything(world)).toEqual(before);
    expect(await world.findings()).toEqual({ events: EVENTS, kinds: [] });
    const done = await archiveLedger(world.db, world.store, { ...OPTIONS, keepEvents: 1_000 });
    expect(done.map(({ last_seq }) => last_seq)).toEqual([15]);
    expect(await world.rows()).toBe(EVENTS - 15);
    expect(await everything(world)).toEqual(before);
  });
});

describe('Archiving refuses', () => {
  it('what is not what was appended, and leaves it where it is', async () => {
    const { db, store, rows } = await ledgerOfSixty();
    await sql`UPDATE ledger SET data = '{}' WHERE seq = 22`.execute(db);
    await expect(archiveLedger(db, store, OPTIONS)).rejects.toThrow('seq 21 to 25, is not what was appended');
    expect(await rows()).toBe(EVENTS - 15);
  });

  it('to run twice at once', async () => {
    const { db, store } = await ledgerOfSixty();
    const outcomes = await Promise.allSettled([
      archiveLedger(db, store, OPTIONS),
      archiveLedger(db, store, OPTIONS),
    ]);
    const refused = outcomes.filter(({ status }) => status === 'rejected');
    const moved = (await archivesIn(db)).reduce((sum, { events }) => sum + events, 0);
    expect(refused.length).toBeLessThanOrEqual(1);
    expect(moved).toBe(55);
  });
});

describe('An archive that goes on where it should not', () => {
  it('as its lock was lost, and another one was made meanwhile, makes no file beside those of the other', async () => {
    const world = await ledgerOfSixty();
    const before = await everything(world);
    let first = true;
    const slow: ArchiveFiles = {
      ...world.store,
      async write(file, bytes) {
        await world.store.write(file, bytes);
        if (!first) return;
        first = false;
        await sql`
          SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`.execute(
          world.db,
        );
        await archiveLedger(world.db, world.store, { ...OPTIONS, fileEvents: 25 });
      },
    };
    await expect(archiveLedger(world.db, slow, OPTIONS)).rejects.toThrow();
    expect(await everything(world)).toEqual(before);
    expect(await world.findings()).toEqual({ events: EVENTS, kinds: [] });
  });

  it('as Postgres was set back to before the file was known takes nothing from the table', async () => {
    const world = await ledgerOfSixty();
    // The row of the file is gone by the time that its transaction is over.
    await sql`
      CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN DELETE FROM archived_streams; DELETE FROM archived_owners; DELETE FROM ledger_archives; RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER forget AFTER INSERT ON ledger_archives
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forget()`.execute(world.db);
    await expect(archiveLedger(world.db, world.store, OPTIONS)).rejects.toThrow();
    expect(await world.rows()).toBe(EVENTS);
  });

  it('as Postgres was set back to before it had the events, is not known to have them', async () => {
    const world = await ledgerOfSixty();
    const slow: ArchiveFiles = {
      ...world.store,
      async write(file, bytes) {
        await world.store.write(file, bytes);
        for (const table of ['ledger', 'ledger_batches']) {
          const seq = table === 'ledger' ? 'seq' : 'last_seq';
          await sql`DELETE FROM ${sql.table(table)} WHERE ${sql.ref(seq)} > 10`.execute(world.db);
        }
      },
    };
    await expect(archiveLedger(world.db, slow, OPTIONS)).rejects.toThrow(ArchiveRefusedError);
    expect(await archivesIn(world.db)).toEqual([]);
    expect(await world.rows()).toBe(10);
  });
});

describe('Verifying finds an archive', () => {
  it.each([
    ['that was changed', (files: Map<string, Uint8Array>, file: string) => files.set(file, Buffer.from('x'))],
    ['that is gone', (files: Map<string, Uint8Array>, file: string) => files.delete(file)],
  ])('%s; who reads it is told, and not given less', async (_, damage) => {
    const { db, store, files, findings } = await ledgerOfSixty();
    const [, second] = await archiveLedger(db, store, OPTIONS);
    damage(files, second?.file ?? '');
    expect(new Set((await findings()).kinds)).toEqual(
      new Set(['broken_archive', 'missing_event', 'broken_chain']),
    );
    const range = { partition: 0, after: 0, limit: 60 };
    await expect(readLedger(db, range, createArchives(store))).rejects.toThrow('give it back from a backup');
  });

  it('whose index says other than its file', async () => {
    const { db, store, findings } = await ledgerOfSixty();
    await archiveLedger(db, store, OPTIONS);
    await sql`DELETE FROM archived_streams WHERE stream_id = 'job-00stream3' AND last_version = 2`.execute(
      db,
    );
    const { kinds } = await findings();
    expect(kinds).toContain('broken_archive');
    expect(kinds).toContain('version_gap');
  });
});
