import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { codec } from '../../src/domain/events.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { LogGapError } from '../../src/eventstore/log.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { FencedError } from '../../src/eventstore/types.ts';
import type { Database } from '../../src/projections/database.ts';
import type { RebuildPhase } from '../../src/projections/generations.ts';
import { findJob } from '../../src/projections/jobs/queries.ts';
import { projection } from '../../src/projections/jobs/table.ts';
import { driveRebuilds, markCaughtUp } from '../../src/projections/rebuild/drive.ts';
import { createRebuildGroup } from '../../src/projections/rebuild/group.ts';
import { viewRebuild } from '../../src/projections/rebuild/progress.ts';
import {
  beginRebuild,
  giveUpRebuild,
  lastRebuilds,
  type Rebuild,
  RebuildRefusedError,
} from '../../src/projections/rebuild/rebuilds.ts';
import { swap } from '../../src/projections/rebuild/swap.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { waitUntil } from '../support/installation.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels, start, writeLedger } from './support/harness.ts';
import { createLog } from './support/histories.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(async () => {
  for (const { id, ended_at } of await lastRebuilds(world.db))
    if (ended_at === null) await giveUpRebuild(world.db, id, 'cancelled');
  await emptyReadModels(world);
});

const job = (name: string): JobId => streamId('job', 0, name.padEnd(20, '0'));
const [a, b] = [job('a'), job('b')];
const enqueued: JobEvent = {
  type: 'JobEnqueued',
  data: {
    ...{ type: 'mail', payload: {}, queue: 'default', priority: 'normal' },
    ...{ maxAttempts: 3, timeoutSeconds: 60 },
  },
};
const started: JobEvent = {
  type: 'JobStarted',
  data: { type: 'mail', attempt: 1, worker: 'w', recovered: false },
};

function logOf(...events: [JobId, JobEvent][]): RawEvent[] {
  const log = createLog(0);
  for (const [stream, event] of events) log.append(stream, event);
  return log.events;
}

/** As leases have theirs. */
const mint = async () =>
  Number(
    (await sql<{ token: number }>`SELECT nextval('fencing_tokens') AS token`.execute(world.db)).rows[0]
      ?.token,
  );

const begin = (options: { parks?: boolean } = {}) =>
  beginRebuild(world.db, projection, { ...options, partitions: 1, by: 'a test', reason: 'it is one' });
const groupOf = (rebuild: Rebuild, phase: () => RebuildPhase | undefined = () => 'filling') =>
  createRebuildGroup({
    ...{ db: world.db, projection, codec, rebuild, phase },
    ...{ turn: (run) => run(), pace: async () => {} },
  });
/** Filled; its group waits for the indexes, until the signal. */
const filled = async (rebuild: Rebuild, token = 1) => {
  const group = groupOf(rebuild, () => (done.signal.aborted ? 'catching up' : 'filling'));
  const done = new AbortController();
  const from = await group.open(0, token);
  const filling = group.fill?.(0, from, token, new AbortController().signal);
  setTimeout(() => done.abort(), 300);
  return { group, at: (await filling) ?? from };
};
const tables = async () =>
  (
    await sql<{ name: string }>`
      SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE 'jobs_v2%'
        AND relnamespace = 'public'::regnamespace`.execute(world.db)
  ).rows.map(({ name }) => name);
const checkpoints = async () =>
  world.db.selectFrom('checkpoints').select(['group_name', 'seq']).orderBy('group_name').execute();

describe('A rebuild', () => {
  const events = logOf([a, enqueued], [b, enqueued], [a, started]);

  it('fences who was at work on the old table when it goes live', async () => {
    const [, , , more] = logOf([a, enqueued], [b, enqueued], [a, started], [b, started]);
    if (!more) throw new Error('the log is too short');
    const live = createProjectionGroup({ db: world.db, projection, codec });
    const old = await mint();
    const at = await applyAll(live, events, old);
    await writeLedger(world, events);
    const rebuild = await begin();
    await filled(rebuild);
    expect(await swap(world.db, projection, rebuild)).toBe('swapped');
    // Both tables are as far: by its position alone nobody would notice.
    await expect(live.apply(0, at, [more], old)).rejects.toThrow(FencedError);
    const token = await mint();
    await live.apply(0, await live.open(0, token), [more], token);
    expect((await findJob(world.db, b))?.status).toBe('running');
  });

  it('that is over can’t be written to by who comes late', async () => {
    await writeLedger(world, events);
    const rebuild = await begin();
    const { group, at } = await filled(rebuild);
    expect(await swap(world.db, projection, rebuild)).toBe('swapped');
    await expect(group.apply(0, at, events.slice(at.seq), 1)).rejects.toThrow();
    await expect(groupOf(rebuild).open(0, 9)).rejects.toThrow(FencedError);
    await expect(groupOf(rebuild).apply(0, start, events.slice(0, 1), 9)).rejects.toThrow(FencedError);
    expect((await findJob(world.db, a))?.status).toBe('running');
    expect((await checkpoints()).map(({ group_name }) => group_name)).toEqual(['projection:jobs@2']);
  });

  it('that is cancelled leaves nothing, and the next one can begin', async () => {
    await writeLedger(world, events);
    const rebuild = await begin();
    await expect(begin()).rejects.toThrow(RebuildRefusedError);
    const { group, at } = await filled(rebuild);
    expect(await giveUpRebuild(world.db, rebuild.id, 'cancelled')).toBe(true);
    expect(await giveUpRebuild(world.db, rebuild.id, 'cancelled')).toBe(false);
    expect(await tables()).not.toContain(rebuild.table_name);
    expect(await checkpoints()).toEqual([]);
    await expect(group.apply(0, at, events.slice(at.seq), 1)).rejects.toThrow();
    expect(await swap(world.db, projection, rebuild)).toBe('behind');
    expect((await begin()).generation).toBe(rebuild.generation + 1);
  });

  it('ends at an event that can’t be applied, names it, and leaves the live read model as it is', async () => {
    const live = createProjectionGroup({ db: world.db, projection, codec });
    await applyAll(live, events, 1);
    await writeLedger(world, logOf([a, enqueued], [b, started]));
    const rebuild = await begin();
    await expect(filled(rebuild)).rejects.toThrow(/the rebuild is over/);
    const last = (await lastRebuilds(world.db)).find(({ id }) => id === rebuild.id);
    expect(last && viewRebuild(last)).toMatchObject({
      phase: 'failed',
      problem: expect.stringMatching(`JobStarted .* \\(partition 0, seq 2, row ${b}\\): .*never enqueued`),
    });
    expect(await tables()).not.toContain(rebuild.table_name);
    expect((await findJob(world.db, a))?.status).toBe('running');
  });

  it('parks what can’t be applied where that was asked for, and its row only', async () => {
    await writeLedger(world, logOf([a, enqueued], [b, started], [a, started]));
    const rebuild = await begin({ parks: true });
    await filled(rebuild);
    expect(await swap(world.db, projection, rebuild)).toBe('swapped');
    expect((await findJob(world.db, a))?.status).toBe('running');
    const parked = world.db.selectFrom('parked_events').select(['group_name', 'row_key', 'seq']);
    expect(await parked.execute()).toEqual([{ group_name: 'projection:jobs@2', row_key: b, seq: 2 }]);
  });

  it('parks, or ends at, an event whose row Postgres can’t hold, as live batches do', async () => {
    const log = logOf([a, enqueued], [b, enqueued], [a, started], [b, started]);
    const tooMany = (data: string) => JSON.stringify({ ...JSON.parse(data), attempt: 3_000_000_000 });
    await writeLedger(
      world,
      log.map((event) => (event.seq === 3 ? { ...event, data: tooMany(event.data) } : event)),
    );
    await expect(filled(await begin())).rejects.toThrow(/the rebuild is over: JobStarted .*seq 3/);
    const rebuild = await begin({ parks: true });
    await filled(rebuild);
    expect(await swap(world.db, projection, rebuild)).toBe('swapped');
    expect([(await findJob(world.db, a))?.status, (await findJob(world.db, b))?.status]).toEqual([
      'queued',
      'running',
    ]);
    const parked = world.db.selectFrom('parked_events').select(['row_key', 'seq', 'because']);
    expect(await parked.execute()).toEqual([{ row_key: a, seq: 3, because: 'row' }]);
  });

  it('parks very many events at once', async () => {
    const log = createLog(0);
    for (let n = 0; n < 10_000; n++) log.append(b, started);
    for (let from = 0; from < 10_000; from += 1_000)
      await writeLedger(world, log.events.slice(from, from + 1_000));
    const rebuild = await begin({ parks: true });
    expect((await filled(rebuild)).at.seq).toBe(10_000);
  });

  it('stops at a gap in the ledger, rather than going live without what is missing', async () => {
    await writeLedger(world, [...events.slice(0, 1), ...events.slice(2)]);
    await expect(filled(await begin())).rejects.toThrow(LogGapError);
  });

  it('waits for who reads the old table for long, without holding up the others', async () => {
    await writeLedger(world, events);
    const rebuild = await begin();
    await filled(rebuild);
    const before = (await findJob(world.db, a))?.status;
    await world.db.transaction().execute(async (reader) => {
      await sql`SELECT FROM jobs_v2`.execute(reader);
      const swapping = swap(world.db, projection, rebuild);
      expect((await findJob(world.db, a))?.status).toBe(before);
      expect(await swapping).toBe('busy');
    });
    expect(await swap(world.db, projection, rebuild)).toBe('swapped');
    expect((await findJob(world.db, a))?.status).toBe('running');
  });

  it('is indexed once it is filled, then caught up, then live: whichever process looks', async () => {
    await writeLedger(world, events);
    const rebuild = await begin();
    await filled(rebuild);
    const slow = openDatabase<Database>({ url: world.databaseUrl, max: 2, applicationName: 'test' });
    onTestFinished(() => slow.destroy());
    const swapped: number[] = [];
    const look = () =>
      driveRebuilds({
        ...{ db: world.db, slow, projections: [projection], heads: async () => [3] },
        signal: new AbortController().signal,
        onSwapped: (_, { id }) => swapped.push(id),
      });
    const phases: string[] = [];
    for (let turn = 0; turn < 4 && swapped.length === 0; turn++) {
      phases.push((await Promise.all([look(), look()]))[0][0]?.phase ?? '');
    }
    expect(new Set(phases)).toEqual(new Set(['filling', 'indexing', 'catching up']));
    expect(swapped).toEqual([rebuild.id]);
  });

  it('holds up the live group where it begins with a partition just then: nothing goes back', async () => {
    const live = createProjectionGroup({ db: world.db, projection, codec });
    const options = { partitions: 2, by: 'a test', reason: 'it is one' };
    const rebuild = await beginRebuild(world.db, projection, options);
    // Far behind in the other partition: the swap holds the live group for a second, and then gives up.
    const ahead = { group_name: 'projection:jobs@2', partition: 1, seq: 9, event_id: null };
    await world.db.insertInto('checkpoints').values(ahead).execute();
    const order: string[] = [];
    const swapping = swap(world.db, projection, rebuild).then((outcome) => order.push(outcome));
    await waitUntil(async () => {
      const { rows } = await sql`
        SELECT FROM pg_locks WHERE relation = 'checkpoints'::regclass AND mode = 'RowShareLock'`.execute(
        world.db,
      );
      return rows.length > 0;
    }, 'the swap to wait');
    const applying = applyAll(live, events, await mint()).then(() => order.push('live'));
    await Promise.all([swapping, applying]);
    expect(order).toEqual(['behind', 'live']);
  });

  /** As a projector does, once a second. */
  function looking(heads: readonly number[]) {
    const slow = openDatabase<Database>({ url: world.databaseUrl, max: 2, applicationName: 'test' });
    onTestFinished(() => slow.destroy());
    const deps = { db: world.db, slow, projections: [projection], heads: async () => heads };
    const signal = new AbortController().signal;
    return () => driveRebuilds({ ...deps, signal, onSwapped: () => {} });
  }
  const phaseOf = async (rebuild: Rebuild) =>
    (await lastRebuilds(world.db)).find(({ id }) => id === rebuild.id)?.phase;

  it('goes live though the live read model is far behind the log', async () => {
    const live = createProjectionGroup({ db: world.db, projection, codec });
    await applyAll(live, events, await mint());
    await writeLedger(world, events);
    const rebuild = await begin();
    await filled(rebuild);
    const look = looking([10_000]);
    for (let turn = 0; turn < 3; turn++) await look();
    expect(await phaseOf(rebuild)).toBe('swapped');
  });

  it('drops the old table as it was told to, once nobody reads it any more, whoever looks then', async () => {
    await writeLedger(world, events);
    const options = { partitions: 1, by: 'a test', reason: 'it is one', dropsPrevious: true };
    const rebuild = await beginRebuild(world.db, projection, options);
    await filled(rebuild);
    const look = looking([3]);
    const [old] = (await tables()).filter((name) => name !== rebuild.table_name).slice(-1);
    await world.db.transaction().execute(async (reader) => {
      // A dump reads tables, not views.
      await sql`LOCK TABLE ${sql.table(old ?? '')} IN ACCESS SHARE MODE`.execute(reader);
      for (let turn = 0; turn < 3; turn++) await look();
      expect(await phaseOf(rebuild)).toBe('swapped');
      expect(await tables()).toContain(old);
    });
    await look();
    expect(await tables()).toEqual([rebuild.table_name]);
  });

  describe('whose indexes take for ever', () => {
    beforeEach(async () => {
      await sql`
        CREATE FUNCTION slowly(id text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
          BEGIN PERFORM pg_sleep(20); RETURN id; END $$`.execute(world.db);
      const { rows } = await sql<{ name: string }>`
        SELECT table_name AS name FROM read_models WHERE projection = 'jobs'`.execute(world.db);
      const live = rows[0]?.name ?? '';
      await sql`CREATE INDEX ${sql.ref(`${live}_slow`)} ON ${sql.table(live)} (slowly(id))`.execute(world.db);
      onTestFinished(async () => void (await sql`DROP FUNCTION slowly CASCADE`.execute(world.db)));
    });

    async function indexing() {
      await writeLedger(world, events);
      const rebuild = await begin();
      await filled(rebuild);
      const slow = openDatabase<Database>({
        ...{ url: world.databaseUrl, max: 2, applicationName: 'test', statementTimeoutMs: 0 },
      });
      onTestFinished(() => slow.destroy());
      const stop = new AbortController();
      const deps = { db: world.db, slow, projections: [projection], heads: async () => [3] };
      const look = () => driveRebuilds({ ...deps, signal: stop.signal, onSwapped: () => {} });
      await look();
      const ended = expect(look()).rejects.toThrow(/cancel/);
      await waitUntil(async () => {
        const { rows } = await sql`
          SELECT FROM pg_stat_activity
          WHERE query LIKE '%_slow%CREATE INDEX%' OR query LIKE '%CREATE%INDEX%_slow%'`.execute(world.db);
        return rows.length > 1;
      }, 'the index to be made');
      return { rebuild, stop, ended };
    }

    it('is cancelled at once, and leaves nothing', async () => {
      const { rebuild, ended } = await indexing();
      expect(await giveUpRebuild(world.db, rebuild.id, 'cancelled')).toBe(true);
      await ended;
      expect(await tables()).not.toContain(rebuild.table_name);
    });

    it('does not keep a projector from stopping', async () => {
      const { rebuild, stop, ended } = await indexing();
      stop.abort();
      await ended;
      const [last] = (await lastRebuilds(world.db)).filter(({ id }) => id === rebuild.id);
      expect(last?.phase).toBe('indexing');
    });
  });
});

it('a new version is not fit to be queried before it holds what there was when it was first looked at', async () => {
  await sql`CREATE TABLE jobs_v8 (LIKE jobs_v2 INCLUDING ALL)`.execute(world.db);
  await writeLedger(world, logOf([a, enqueued]));
  const ledger = { group_name: 'ledger', partition: 0, seq: 3, event_id: null };
  await world.db.insertInto('checkpoints').values(ledger).execute();
  await sql`SELECT make_read_model('jobs', 8)`.execute(world.db);
  let head = 3;
  const version = { ...projection, version: 8 };
  const seen = new Map();
  const ready = async () => {
    await markCaughtUp({ db: world.db, projections: [version], heads: async () => [head] }, seen);
    const rows = world.db.selectFrom('read_models').select('caught_up_at').where('version', '=', 8);
    return (await rows.executeTakeFirstOrThrow()).caught_up_at !== null;
  };
  expect(await ready()).toBe(false);
  head = 100;
  const group = { ...ledger, group_name: 'projection:jobs@8', seq: 2 };
  await world.db.insertInto('checkpoints').values(group).execute();
  expect(await ready()).toBe(false);
  await world.db.updateTable('checkpoints').set({ seq: 3 }).where('seq', '=', 2).execute();
  expect(await ready()).toBe(true);
});
