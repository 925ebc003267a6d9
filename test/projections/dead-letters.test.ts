import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { codec, type DomainEvent } from '../../src/domain/events.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import { failedAttempts } from '../../src/projections/dead-letters/attempts.ts';
import * as letters from '../../src/projections/dead-letters/queries.ts';
import { projection } from '../../src/projections/dead-letters/table.ts';
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

const project = () => applyAll(createProjectionGroup({ db: world.db, projection, codec }), log.events, 1);
const job = (name: string): JobId => streamId('job', 0, name.padEnd(20, '0'));
const type = 'mail';
const error = { name: 'Error', message: 'no route', stack: 'at /srv/mail.ts:7', fingerprint: 'f'.repeat(16) };
const spec = { payload: {}, queue: 'email', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 } as const;
const enqueued: DomainEvent = { type: 'JobEnqueued', data: { ...spec, type } };
const failed = (attempt: number): DomainEvent => ({
  type: 'JobAttemptFailed',
  data: { type, attempt, error, retryAt: '2026-01-01T00:01:00.000Z', worker: 'w1' },
});
const died = (more = {}): DomainEvent => ({
  type: 'JobDeadLettered',
  data: { type, attempt: 2, error, worker: 'w2', reason: 'attempts', queue: 'email', ...more },
});
const retried: DomainEvent = {
  type: 'JobRetried',
  data: { type, attempts: 2, dueAt: '2026-01-01T00:02:00.000Z' },
};
const discarded: DomainEvent = { type: 'JobDiscarded', data: { type } };

const ids = async (listing: Partial<Parameters<typeof letters.listDeadLetters>[1]> = {}) =>
  (await letters.listDeadLetters(world.db, { status: 'dead', limit: 10, ...listing })).map(({ id }) => id);

async function* history(): AsyncGenerator<RawEvent> {
  yield* log.events;
}

describe('a dead letter', () => {
  it('tells how its job died, and what became of it and why; jobs that did not die have none', async () => {
    log.append(job('a'), enqueued, 'acc-1');
    log.append(job('b'), enqueued, 'acc-1');
    log.append(job('a'), failed(1), 'acc-1');
    log.append(job('b'), failed(1), 'acc-1');
    log.append(job('a'), died({ orderingKey: 'ada', lane: 'a'.repeat(16), ignoredAbort: true }), 'acc-1');
    await project();
    expect(await ids()).toEqual([job('a')]);
    const { stack: _stack, ...shown } = error;
    expect(await letters.findDeadLetter(world.db, job('a'))).toEqual({
      id: job('a'),
      type,
      queue: 'email',
      owner: 'acc-1',
      orderingKey: 'ada',
      lane: 'a'.repeat(16),
      status: 'dead',
      reason: 'attempts',
      attempts: 2,
      deaths: 1,
      error: shown,
      worker: 'w2',
      ignoredAbort: true,
      diedAt: '2026-01-01T00:00:05.005Z',
      traceId: '5'.padStart(32, '0'),
      version: 3,
    });
    expect(await letters.findDeadLetter(world.db, job('b'))).toBeUndefined();

    const raw = log.append(job('a'), discarded, 'acc-1');
    const meta = JSON.stringify({ ...JSON.parse(raw.meta), actor: 'acc-op', reason: 'a duplicate' });
    log.events.splice(-1, 1, { ...raw, meta });
    await project();
    expect(await ids()).toEqual([]);
    expect(await letters.findDeadLetter(world.db, job('a'))).toMatchObject({
      status: 'discarded',
      settledBy: 'acc-op',
      settledFor: 'a duplicate',
      settledAt: '2026-01-01T00:00:06.006Z',
      version: 4,
    });
  });

  it('that was redriven and died again is one letter again, which says how often', async () => {
    for (const event of [enqueued, died(), retried, died({ reason: 'no_retry' })])
      log.append(job('a'), event);
    await project();
    const found = await letters.findDeadLetter(world.db, job('a'));
    expect(found).toMatchObject({ status: 'dead', deaths: 2, reason: 'no_retry', version: 4 });
    expect(found).not.toHaveProperty('settledAt');
    log.append(job('a'), retried);
    await project();
    expect(await ids({ status: 'redriven' })).toEqual([job('a')]);
  });

  it('is none of a job that was cancelled and is run again', async () => {
    log.append(job('a'), enqueued);
    log.append(job('a'), { type: 'JobCancelled', data: { type, attempts: 0 } });
    log.append(job('a'), retried);
    await project();
    expect(await letters.findDeadLetter(world.db, job('a'))).toBeUndefined();
    expect(await world.db.selectFrom('parked_events').selectAll().execute()).toEqual([]);
  });

  it('keeps every attempt in order: error, stack, worker, trace; also those before it was redriven', async () => {
    for (const event of [enqueued, failed(1), died(), retried, failed(3)]) log.append(job('a'), event);
    const { stack, ...said } = error;
    const attempt = { error: said, stack, ignoredAbort: false };
    expect(await failedAttempts(history())).toEqual([
      {
        ...attempt,
        attempt: 1,
        final: false,
        worker: 'w1',
        at: '2026-01-01T00:00:02.002Z',
        traceId: '2'.padStart(32, '0'),
      },
      {
        ...attempt,
        attempt: 2,
        final: true,
        worker: 'w2',
        at: '2026-01-01T00:00:03.003Z',
        traceId: '3'.padStart(32, '0'),
      },
      {
        ...attempt,
        attempt: 3,
        final: false,
        worker: 'w1',
        at: '2026-01-01T00:00:05.005Z',
        traceId: '5'.padStart(32, '0'),
      },
    ]);
  });
});

describe('dead letters', () => {
  beforeEach(async () => {
    log.append(job('a'), died({ orderingKey: 'ada' }), 'acc-1');
    log.append(job('b'), died({ queue: 'webhooks', type: 'http.request' }), 'acc-2');
    log.append(job('c'), died({ error: { ...error, fingerprint: 'e'.repeat(16) }, reason: 'no_retry' }));
    await project();
  });

  it.each([
    [{}, ['c', 'b', 'a']],
    [{ type }, ['c', 'a']],
    [{ queue: 'webhooks' }, ['b']],
    [{ fingerprint: 'f'.repeat(16) }, ['b', 'a']],
    [{ orderingKey: 'ada' }, ['a']],
    [{ owner: 'acc-2' }, ['b']],
    [{ reason: 'no_retry' as const }, ['c']],
    [{ from: '2026-01-01T00:00:02.002Z' }, ['c', 'b']],
    [{ to: '2026-01-01T00:00:02.002Z' }, ['a']],
    [{ ids: [job('a'), job('c')] }, ['c', 'a']],
    [{ type, owner: 'acc-2' }, []],
    [{ limit: 1 }, ['c']],
    [{ before: { diedAt: '2026-01-01T00:00:02.002Z', id: job('b') } }, ['a']],
  ])('are listed newest first, narrowed by %j', async (listing, names) => {
    expect(await ids(listing)).toEqual(names.map(job));
  });

  it('are settled oldest first, those that were dead by the log’s order when it was asked for', async () => {
    const page = async (heads: number[], more = {}) =>
      (await letters.lettersToSettle(world.db, {}, { heads, limit: 10, ...more })).map(({ jobId }) => jobId);
    expect(await page([3])).toEqual(['a', 'b', 'c'].map(job));
    expect(await page([2])).toEqual(['a', 'b'].map(job));
    expect(await letters.countToSettle(world.db, {}, [2])).toBe(2);
    expect(await page([])).toEqual([]);
    const [first] = await letters.lettersToSettle(world.db, {}, { heads: [3], limit: 1 });
    expect(first).toMatchObject({ jobId: job('a'), version: 1 });
    expect(await page([3], { after: first?.place })).toEqual(['b', 'c'].map(job));

    // One that was redriven and died again since is not what was asked for.
    log.append(job('a'), retried);
    log.append(job('a'), died());
    await project();
    expect(await page([3])).toEqual(['b', 'c'].map(job));
    expect(await letters.lettersHold(world.db, [5])).toBe(true);
    expect(await letters.lettersHold(world.db, [5, 1])).toBe(false);
    expect(await letters.countSettledIn(world.db, 'c')).toBe(0);
    log.append(job('b'), discarded);
    await project();
    expect(await letters.countSettledIn(world.db, 'c')).toBe(1);
  });
});
