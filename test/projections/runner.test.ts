import { type Kysely, sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { codec, createCodec, eventTypes, UnknownEventError } from '../../src/domain/events.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { FencedError } from '../../src/eventstore/types.ts';
import type { Database } from '../../src/projections/database.ts';
import { findJob } from '../../src/projections/jobs/queries.ts';
import { projection } from '../../src/projections/jobs/table.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels, start } from './support/harness.ts';
import { createLog } from './support/histories.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(() => emptyReadModels(world));

const jobs = (db: Kysely<Database> = world.db) => createProjectionGroup({ db, projection, codec });

const job = (name: string): JobId => streamId('job', 0, name.padEnd(20, '0'));
const [a, b, c] = [job('a'), job('b'), job('c')];

const enqueued: JobEvent = {
  type: 'JobEnqueued',
  data: {
    type: 'mail',
    payload: {},
    queue: 'default',
    priority: 'normal',
    maxAttempts: 3,
    timeoutSeconds: 60,
  },
};
const started: JobEvent = {
  type: 'JobStarted',
  data: { type: 'mail', attempt: 1, worker: 'w', recovered: false },
};
const progressed = (progress: number): JobEvent => ({
  type: 'JobProgressed',
  data: { type: 'mail', progress },
});

function logOf(...events: [JobId, JobEvent][]): RawEvent[] {
  const log = createLog(0);
  for (const [stream, event] of events) log.append(stream, event);
  return log.events;
}

/** The same events, with one of them (by its seq) spoilt. */
function spoilt(events: readonly RawEvent[], seq: number, change: Partial<RawEvent>): RawEvent[] {
  return events.map((event) => (event.seq === seq ? { ...event, ...change } : event));
}

const parked = () =>
  world.db
    .selectFrom('parked_events')
    .select(['seq', 'row_key', 'because', 'error'])
    .orderBy('seq')
    .execute();

const checkpoint = () =>
  world.db
    .selectFrom('checkpoints')
    .select(['seq', 'event_id', 'token'])
    .where('group_name', '=', 'projection:jobs@2')
    .executeTakeFirst();

const statusOf = async (id: JobId) => (await findJob(world.db, id))?.status;

describe('a poisoned event', () => {
  const events = logOf([a, enqueued], [b, enqueued], [a, started], [b, started], [a, progressed(5)]);

  it.each([
    ['that is not JSON', { data: '{' }],
    ['whose metadata is not an object', { meta: 'null' }],
    ['without a time', { meta: '{"schema":1,"at":"yesterday"}' }],
    ['that is not what its type promises', { data: '{"type":"mail"}' }],
  ])('%s is parked, with all later events of its row; the others go on', async (_what, change) => {
    await applyAll(jobs(), spoilt(events, 3, change), 1);
    expect(await parked()).toEqual([
      { seq: 3, row_key: a, because: 'decode', error: expect.stringMatching(/./) },
      { seq: 5, row_key: a, because: 'behind', error: 'an earlier event of this row is parked' },
    ]);
    expect([await statusOf(a), await statusOf(b)]).toEqual(['queued', 'running']);
    expect(await checkpoint()).toMatchObject({ seq: 5 });
  });

  it('that makes a row which Postgres cannot hold is found in its batch and parked', async () => {
    const longer = [...events, ...logOf([a, progressed(6)]).map((event) => ({ ...event, seq: 6 }))];
    const tooLarge = { version: 3_000_000_000 };
    await applyAll(jobs(), spoilt(spoilt(longer, 5, tooLarge), 6, tooLarge), 1);
    expect(await parked()).toEqual([
      { seq: 5, row_key: a, because: 'row', error: expect.stringContaining('out of range') },
      { seq: 6, row_key: a, because: 'behind', error: 'an earlier event of this row is parked' },
    ]);
    expect([await findJob(world.db, a), await statusOf(b)]).toMatchObject([
      { status: 'running', version: 2, progress: 0 },
      'running',
    ]);
    expect(await checkpoint()).toMatchObject({ seq: 6 });
  });

  it('that does not follow from its row is parked, too', async () => {
    await applyAll(jobs(), logOf([a, started], [b, enqueued]), 1);
    expect(await parked()).toMatchObject([
      { seq: 1, row_key: a, because: 'reducer', error: expect.stringContaining('never') },
    ]);
    expect(await statusOf(b)).toBe('queued');
  });

  it('holds back its row in later batches and under later owners', async () => {
    const broken = spoilt(events, 3, { data: '{' });
    const at = await jobs().apply(0, await jobs().open(0, 1), broken.slice(0, 4), 1);
    await jobs().open(0, 2);
    await jobs().apply(0, at, broken.slice(4), 2);
    expect(await parked()).toMatchObject([{ seq: 3 }, { seq: 5 }]);
    expect(await statusOf(a)).toBe('queued');
  });

  it('holds back its row under the same owner, too, who has the row at hand', async () => {
    const broken = spoilt(events, 3, { data: '{' });
    await applyAll(jobs(), broken, 1, [2, 1, 1]);
    expect(await parked()).toMatchObject([{ seq: 3 }, { seq: 5 }]);
    expect([await statusOf(a), await statusOf(b)]).toEqual(['queued', 'running']);
  });

  it('of a type that has no row is passed over unread', async () => {
    const log = createLog(0);
    const session = streamId('ses', 0, 's'.repeat(20));
    log.append(session, { type: 'SessionEnded', data: { reason: 'logged_out' } });
    await applyAll(jobs(), spoilt(log.events, 1, { data: '{' }), 1);
    expect(await parked()).toEqual([]);
    expect(await checkpoint()).toMatchObject({ seq: 1, event_id: log.events[0]?.id });
  });
});

describe('an event of newer code', () => {
  const events = logOf([a, enqueued], [a, started]);

  it.each([
    ['of an unknown type', { type: 'JobFrozen' }],
    ['of a newer schema', { meta: '{"schema":2,"at":"2026-01-01T00:00:00.000Z"}' }],
  ])('%s leaves the whole batch to that code', async (_what, change) => {
    const group = jobs();
    const at = await group.open(0, 1);
    await expect(group.apply(0, at, spoilt(events, 2, change), 1)).rejects.toThrow(UnknownEventError);
    expect([await statusOf(a), (await checkpoint())?.seq]).toEqual([undefined, 0]);
  });
});

describe('an event of older code', () => {
  it('is upcast on its way into the read model', async () => {
    const { schema, upcast } = eventTypes.JobEnqueued;
    const types = {
      ...eventTypes,
      JobEnqueued: {
        ...eventTypes.JobEnqueued,
        schema: schema + 1,
        upcast: { ...upcast, [schema]: (data: unknown) => ({ ...(data as object), queue: 'default' }) },
      },
    };
    const [first] = logOf([a, enqueued]);
    const { queue: _unknownThen, ...old } = enqueued.data as Record<string, unknown>;
    const group = createProjectionGroup({ db: world.db, projection, codec: createCodec(types) });
    await applyAll(group, first ? [{ ...first, data: JSON.stringify(old) }] : [], 1);
    expect(await parked()).toEqual([]);
    expect(await findJob(world.db, a)).toMatchObject({ queue: 'default' });
  });
});

describe('an owner', () => {
  const events = logOf([a, enqueued], [a, started], [b, enqueued], [c, enqueued]);

  it('whose token is stale writes nothing', async () => {
    const at = await jobs().open(0, 1);
    await jobs().open(0, 2);
    await expect(jobs().apply(0, at, events, 1)).rejects.toThrow(FencedError);
    expect([await statusOf(a), await checkpoint()]).toEqual([
      undefined,
      { seq: 0, event_id: null, token: 2 },
    ]);
  });

  it('that Postgres has forgotten, as it was set back, writes nothing: its table may not be the one that is read', async () => {
    await jobs().open(0, 1);
    const owner = jobs();
    const at = await owner.open(0, 5);
    await world.db.updateTable('checkpoints').set({ token: 1 }).execute();
    await expect(owner.apply(0, at, events, 5)).rejects.toThrow(FencedError);
    expect([await statusOf(a), await checkpoint()]).toEqual([
      undefined,
      { seq: 0, event_id: null, token: 1 },
    ]);
  });

  it('with a stale token cannot take the partition back', async () => {
    await jobs().open(0, 2);
    await expect(jobs().open(0, 1)).rejects.toThrow(FencedError);
  });

  it('that is not where it thinks it is writes nothing', async () => {
    const group = jobs();
    const at = await group.apply(0, await group.open(0, 1), events.slice(0, 1), 1);
    const other = { ...at, eventId: events[2]?.id ?? null };
    await expect(group.apply(0, other, events.slice(1), 1)).rejects.toThrow(FencedError);
    expect(await statusOf(a)).toBe('queued');
  });

  it('that races another applies a batch or is refused: together they apply it once', async () => {
    const group = jobs();
    await group.open(0, 1);
    const results = await Promise.allSettled(
      Array.from({ length: 4 }, () => group.apply(0, start, events, 1)),
    );
    const refusals = results.filter((result) => result.status === 'rejected');
    expect(refusals.map(({ reason }) => reason.name)).toEqual(['FencedError', 'FencedError', 'FencedError']);
    expect(await findJob(world.db, a)).toMatchObject({ status: 'running', version: 2 });
  });

  it('that comes back goes on from what the owner in between wrote, not from what it remembers', async () => {
    const [one, other] = [jobs(), jobs()];
    const log = logOf([a, enqueued], [a, started], [a, progressed(5)], [a, progressed(6)]);
    const first = await one.apply(0, await one.open(0, 1), log.slice(0, 1), 1);
    const second = await other.apply(0, await other.open(0, 2), log.slice(1, 3), 2);
    await expect(one.apply(0, first, log.slice(1, 2), 1)).rejects.toThrow(FencedError);
    expect(await one.open(0, 3)).toEqual(second);
    await one.apply(0, second, log.slice(3), 3);
    expect(await findJob(world.db, a)).toMatchObject({ status: 'running', progress: 6, version: 4 });
  });

  it('refuses a batch with a gap, or of another partition', async () => {
    const group = jobs();
    const at = await group.open(0, 1);
    await expect(group.apply(0, at, events.slice(1), 1)).rejects.toThrow('does not follow');
    await group.open(1, 1);
    await expect(group.apply(1, start, events, 1)).rejects.toThrow('does not follow');
    expect(await checkpoint()).toMatchObject({ seq: 0 });
  });
});

describe('a batch', () => {
  it('writes its rows in the order of their keys, so that owners cannot deadlock', async () => {
    await applyAll(jobs(), logOf([c, enqueued], [a, enqueued], [b, enqueued]), 1);
    const rows = (await sql<{ id: string }>`SELECT id FROM jobs_v2_g1 ORDER BY ctid`.execute(world.db)).rows;
    expect(rows.map((row) => row.id)).toEqual([a, b, c]);
  });

  it('that Postgres could not take is not applied, and can be tried again', async () => {
    const impatient = openDatabase<Database>({
      url: world.databaseUrl,
      max: 1,
      applicationName: 'test',
      lockTimeoutMs: 50,
    });
    try {
      const group = jobs(impatient);
      const at = await group.open(0, 1);
      const events = logOf([a, enqueued]);
      await world.db.transaction().execute(async (trx) => {
        await sql`LOCK TABLE jobs_v2 IN ACCESS EXCLUSIVE MODE`.execute(trx);
        await expect(group.apply(0, at, events, 1)).rejects.toMatchObject({ code: '55P03' });
      });
      expect(await checkpoint()).toMatchObject({ seq: 0 });
      await group.apply(0, at, events, 1);
      expect([await statusOf(a), (await parked()).length]).toEqual(['queued', 0]);
    } finally {
      await impatient.destroy();
    }
  });

  it('is announced once it is visible', async () => {
    const seen: unknown[] = [];
    const group = createProjectionGroup({
      db: world.db,
      projection,
      codec,
      onApplied: (partition, at) => seen.push([partition, at.seq]),
      observe: (applied) => seen.push(applied.map((event) => event.type)),
    });
    await applyAll(group, logOf([a, enqueued], [a, started]), 1, [1]);
    expect(seen).toEqual([['JobEnqueued'], [0, 1], ['JobStarted'], [0, 2]]);
  });
});
