import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { codec, type DomainEvent } from '../../src/domain/events.ts';
import { exportOfJob, type JobId, streamId } from '../../src/domain/ids.ts';
import * as exports from '../../src/projections/exports.ts';
import * as jobs from '../../src/projections/jobs/queries.ts';
import * as jobsTable from '../../src/projections/jobs/table.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels } from './support/harness.ts';
import { createLog, type Log } from './support/histories.ts';

let world: World;
let log: Log;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(async () => {
  await emptyReadModels(world);
  log = createLog(0);
});

/** Brings both read models to the log's end. */
async function project(): Promise<void> {
  const { db } = world;
  await applyAll(createProjectionGroup({ db, projection: jobsTable.projection, codec }), log.events, 1);
  await applyAll(createProjectionGroup({ db, projection: exports.projection, codec }), log.events, 1);
}

const job = (name: string): JobId => streamId('job', 0, name.padEnd(20, '0'));

const enqueued = (type = 'mail'): DomainEvent => ({
  type: 'JobEnqueued',
  data: { type, payload: {}, queue: 'default', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 },
});

const started = (type = 'mail'): DomainEvent => ({
  type: 'JobStarted',
  data: { type, attempt: 1, worker: 'w', recovered: false },
});

const requested = (jobId: JobId): DomainEvent => ({
  type: 'ExportRequested',
  data: { dataset: 'events', format: 'ndjson', scope: 'own', jobId, heads: [0] },
});

describe('a list', () => {
  it('goes through everything once, newest first, while more arrives between its pages', async () => {
    const names = Array.from({ length: 9 }, (_, index) => `old${index}`);
    for (const name of names) log.append(job(name), enqueued(), 'acc-1');
    await project();
    const seen: string[] = [];
    let before: { createdAt: string; id: string } | undefined;
    for (let page = 0; ; page++) {
      const items = await jobs.listJobs(world.db, { owner: 'acc-1', before, limit: 2 });
      const last = items.at(-1);
      if (!last) break;
      seen.push(...items.map((item) => item.id));
      before = { createdAt: last.createdAt, id: last.id };
      log.append(job(`new${page}`), enqueued(), 'acc-1');
      await project();
    }
    expect(seen).toEqual(names.map(job).reverse());
  });

  it('tells apart what was created in the same millisecond', async () => {
    const at = log.append(job('a'), enqueued(), 'acc-1').meta;
    for (const name of ['b', 'c']) {
      log.append(job(name), enqueued(), 'acc-1');
      log.events.push({ ...(log.events.pop() as (typeof log.events)[number]), meta: at });
    }
    await project();
    const [first] = await jobs.listJobs(world.db, { limit: 1 });
    const before = { createdAt: first?.createdAt ?? '', id: first?.id ?? '' };
    const rest = await jobs.listJobs(world.db, { limit: 5, before });
    expect([first?.id, ...rest.map((item) => item.id)]).toEqual([job('c'), job('b'), job('a')]);
  });

  it('is narrowed by owner, status, type, queue and time of creation', async () => {
    log.append(job('a'), enqueued(), 'acc-1');
    log.append(job('b'), enqueued('export'), 'acc-1');
    log.append(job('c'), enqueued(), 'acc-2');
    log.append(job('c'), started(), 'acc-2');
    await project();
    const ids = async (listing: Partial<jobs.JobListing>) =>
      (await jobs.listJobs(world.db, { limit: 10, ...listing })).map((item) => item.id);
    const { createdAt } = (await jobs.findJob(world.db, job('b'))) ?? { createdAt: '' };
    expect(await ids({})).toEqual([job('c'), job('b'), job('a')]);
    expect(await ids({ owner: 'acc-1' })).toEqual([job('b'), job('a')]);
    expect(await ids({ owner: 'acc-1', type: 'mail' })).toEqual([job('a')]);
    expect(await ids({ status: 'running' })).toEqual([job('c')]);
    expect(await ids({ queue: 'exports' })).toEqual([]);
    expect(await ids({ from: createdAt })).toEqual([job('c'), job('b')]);
    expect(await ids({ to: createdAt })).toEqual([job('a')]);
  });
});

describe('a job', () => {
  it('shows how far it is, and its result whatever that holds', async () => {
    const result = { text: 'NUL \0 and half a pair \ud800', big: 1e21, deep: [null, {}] };
    log.append(job('a'), enqueued(), 'acc-1');
    log.append(job('a'), started(), 'acc-1');
    const error = { name: 'Error', message: 'no disk' };
    const retryAt = '2026-01-01T00:01:00.000Z';
    log.append(job('a'), { type: 'JobAttemptFailed', data: { type: 'mail', attempt: 1, error, retryAt } });
    await project();
    expect(await jobs.findJob(world.db, job('a'))).toEqual({
      id: job('a'),
      owner: 'acc-1',
      type: 'mail',
      queue: 'default',
      priority: 'normal',
      status: 'retrying',
      attempts: 1,
      progress: 0,
      error,
      worker: 'w',
      createdAt: '2026-01-01T00:00:01.001Z',
      dueAt: retryAt,
      startedAt: '2026-01-01T00:00:02.002Z',
      traceId: '1'.padStart(32, '0'),
      version: 3,
    });
    log.append(job('a'), started(), 'acc-1');
    log.append(job('a'), { type: 'JobCompleted', data: { type: 'mail', attempt: 1, result } });
    await project();
    const done = await jobs.findJob(world.db, job('a'));
    expect(done).toMatchObject({ status: 'succeeded', progress: 100, result, version: 5 });
    const times = { startedAt: '2026-01-01T00:00:02.002Z', finishedAt: '2026-01-01T00:00:05.005Z' };
    expect(done).toMatchObject(times);
    expect(done).not.toHaveProperty('error');
  });

  it('of somebody else is not there', async () => {
    log.append(job('a'), enqueued(), 'acc-1');
    await project();
    expect(await jobs.findJob(world.db, job('a'), 'acc-1')).toBeDefined();
    expect(await jobs.findJob(world.db, job('a'), 'acc-2')).toBeUndefined();
    expect(await exports.findExport(world.db, exportOfJob(job('a')), 'acc-1')).toBeUndefined();
  });
});

describe('a job with an ordering key', () => {
  const type = 'mail';
  const error = { name: 'Error', message: 'no disk' };
  const keyed = (lane: string, runAt?: string): DomainEvent => {
    const { data, ...event } = enqueued();
    const key = { orderingKey: 'ada', lane: lane.repeat(16), ...(runAt ? { runAt } : {}) };
    return { ...event, data: { ...data, ...key } } as DomainEvent;
  };
  const dead: DomainEvent = {
    type: 'JobDeadLettered',
    data: { type, attempt: 1, error, reason: 'no_retry' },
  };
  const parked = async () =>
    (await jobs.listJobs(world.db, { limit: 10 })).filter((item) => item.parked).map((item) => item.id);

  beforeEach(() => {
    log.append(job('a'), keyed('a'));
    log.append(job('b'), keyed('a'));
    log.append(job('c'), keyed('b'));
    log.append(job('d'), keyed('a', '2999-01-01T00:00:00.000Z'));
    log.append(job('e'), keyed('a', '2026-01-01T00:00:30.000Z'));
    log.append(job('a'), started());
  });

  it('is parked from when one before it is a dead letter, if its time has come and its key is the same', async () => {
    await project();
    expect(await parked()).toEqual([]);
    log.append(job('a'), dead);
    await project();
    expect(await parked()).toEqual([job('e'), job('b')]);
    expect(await jobs.findJob(world.db, job('b'))).toMatchObject({ status: 'queued', parked: true });
    expect(await jobs.findJob(world.db, job('a'))).toMatchObject({ status: 'failed', reason: 'no_retry' });
    const lane = 'a'.repeat(16);
    expect(await jobs.countWaiting(world.db, [lane, 'b'.repeat(16), 'c'])).toEqual(
      new Map([
        [lane, 2],
        ['b'.repeat(16), 1],
      ]),
    );
  });

  it.each([
    ['given up', { type: 'JobDiscarded', data: { type } }, { status: 'failed', discarded: true }],
    [
      'redriven',
      { type: 'JobRetried', data: { type, attempts: 1, dueAt: '2026-01-01T00:01:00.000Z' } },
      { status: 'queued', dueAt: '2026-01-01T00:01:00.000Z' },
    ],
  ] satisfies [string, DomainEvent, object][])(
    'is not parked any more once the dead letter is %s',
    async (_what, event, shown) => {
      log.append(job('a'), dead);
      log.append(job('a'), event);
      await project();
      expect(await parked()).toEqual([]);
      const found = await jobs.findJob(world.db, job('a'));
      expect(found).toMatchObject(shown);
      if (event.type === 'JobRetried') expect(found).not.toHaveProperty('reason');
    },
  );
});

describe('the jobs that wait for a time', () => {
  it('are counted by their queue, retries among them, until the time has come', async () => {
    const at = '2999-01-01T00:00:00.000Z';
    const later: DomainEvent = { type: 'JobSnoozed', data: { type: 'mail', attempt: 1, until: at } };
    for (const name of ['a', 'b', 'c', 'd']) {
      log.append(job(name), enqueued());
      log.append(job(name), started());
    }
    log.append(job('a'), later);
    log.append(job('b'), { ...later, data: { ...later.data, until: '2026-01-01T00:00:00.000Z' } });
    log.append(job('c'), {
      type: 'JobAttemptFailed',
      data: { type: 'mail', attempt: 1, error: { name: 'E', message: '' }, retryAt: at },
    });
    await project();
    expect(await jobs.countScheduled(world.db)).toEqual(new Map([['default', 2]]));
    expect(await jobs.findJob(world.db, job('a'))).toMatchObject({
      status: 'scheduled',
      attempts: 0,
      dueAt: at,
    });
  });
});

describe('an export', () => {
  const id = exportOfJob(job('e'));

  it('is there once its request is, and not when only its job was read', async () => {
    log.append(job('e'), enqueued('export'), 'acc-1');
    await project();
    expect(await exports.findExport(world.db, id, 'acc-1')).toBeUndefined();
    expect(await exports.listExports(world.db, { limit: 5 })).toEqual([]);
    log.append(id, requested(job('e')), 'acc-1');
    await project();
    expect(await exports.findExport(world.db, id, 'acc-1')).toMatchObject({ status: 'queued', version: 2 });
    expect(await exports.listExports(world.db, { limit: 5, status: 'queued' })).toHaveLength(1);
  });

  it('counts up its version with each event, shows its progress, then its file', async () => {
    const type = 'export';
    const file = { blob: 'exports/x', fileName: 'events.ndjson.gz', sha256: 'a'.repeat(64) };
    log.append(job('e'), enqueued(type), 'acc-1');
    log.append(id, requested(job('e')), 'acc-1');
    log.append(job('e'), started(type), 'acc-1');
    const detail = { rows: 10, bytes: 5_000_000_000 };
    log.append(job('e'), { type: 'JobProgressed', data: { type, progress: 33.3, detail } });
    await project();
    const running = { status: 'running', progress: 33.3, rows: 10, bytes: 5_000_000_000, version: 4 };
    expect(await exports.findExport(world.db, id)).toMatchObject(running);
    const result = { ...file, rows: 30, bytes: 900 };
    log.append(job('e'), { type: 'JobCompleted', data: { type, attempt: 1, result } });
    await project();
    const done = { status: 'succeeded', progress: 100, rows: 30, bytes: 900, file, version: 5 };
    expect(await exports.findExport(world.db, id)).toMatchObject({ ...done, owner: 'acc-1' });
  });

  it('is the same whichever of the two events of its commit was read first', async () => {
    const events: [typeof id | JobId, DomainEvent][] = [
      [job('e'), enqueued('export')],
      [id, requested(job('e'))],
    ];
    const rows = [];
    for (const order of [events, events.toReversed()]) {
      await emptyReadModels(world);
      log = createLog(0);
      for (const [stream, event] of order) log.append(stream, event, 'acc-1');
      // Of one commit, hence of one time and one trace.
      const [first] = log.events;
      const metaOf = (event: RawEvent | undefined) => JSON.parse(event?.meta ?? '{}');
      const shared = log.events.map((event) => {
        const { schema } = metaOf(event);
        return { ...event, meta: JSON.stringify({ ...metaOf(first), schema }) };
      });
      log.events.splice(0, 2, ...shared);
      await project();
      rows.push(await exports.findExport(world.db, id));
    }
    expect(rows[0]).toBeDefined();
    expect(rows[0]).toEqual(rows[1]);
  });

  it('whose job cannot be read is parked, while other jobs that cannot be read are none of its business', async () => {
    log.append(job('e'), enqueued('export'), 'acc-1');
    log.append(job('a'), enqueued('mail'), 'acc-1');
    log.events.splice(
      0,
      2,
      ...log.events.map((event) => ({ ...event, data: event.data.replace('"payload"', '"x"') })),
    );
    await project();
    const parked = await world.db.selectFrom('parked_events').select('row_key').orderBy('row_key').execute();
    expect(parked.map((row) => row.row_key)).toEqual([id, job('a'), job('e')]);
  });
});
