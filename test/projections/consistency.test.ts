import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { codec } from '../../src/domain/events.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import { checkpointChannel } from '../../src/eventstore/partitions.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { type ReadAtLeastDeps, readAtLeast } from '../../src/projections/consistency.ts';
import { findJob } from '../../src/projections/jobs/queries.ts';
import { projection } from '../../src/projections/jobs/table.ts';
import { groupOf } from '../../src/projections/projection.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels } from './support/harness.ts';
import { createLog } from './support/histories.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(() => emptyReadModels(world));

type WaitFor = ReadAtLeastDeps['waitFor'];
const group = groupOf(projection);
const at = (partition: number, seq: number) => ({ partition, epoch: 1, seq });

/** Answers by partition: what the checkpoints would. */
const answers =
  (...outcomes: Awaited<ReturnType<WaitFor>>[]): WaitFor =>
  async ({ position }) =>
    outcomes[position.partition] ?? 'reached';

const ask = (waitFor: WaitFor, positions = [at(0, 7), at(1, 8)], signal?: AbortSignal) =>
  readAtLeast(
    { db: world.db, waitFor },
    { group, positions, timeoutMs: 10_000, ...(signal ? { signal } : {}) },
  );

async function park(partition: number, seq: number): Promise<void> {
  await world.db
    .insertInto('parked_events')
    .values({ group_name: group, partition, seq, epoch: 1, row_key: 'k', error: 'e' })
    .execute();
}

describe('a query that waits for its own writes', () => {
  it('is ok once every position is reached, and at once when there is none', async () => {
    expect(await ask(answers('reached', 'reached'))).toBe('ok');
    expect(await ask(answers(), [])).toBe('ok');
  });

  it('is behind when one position was not reached in time', async () => {
    expect(await ask(answers('reached', 'timeout'))).toBe('behind');
  });

  it('learns that its event is parked, and does not care for others that are', async () => {
    await park(1, 8);
    expect(await ask(answers('reached', 'reached'))).toBe('parked');
    expect(await ask(answers('reached', 'reached'), [at(0, 8), at(1, 7)])).toBe('ok');
  });

  it('learns that a position is lost at once, whatever the others still wait for', async () => {
    let stopped = false;
    const waitFor: WaitFor = ({ position, signal }) =>
      position.partition === 1
        ? Promise.resolve('lost')
        : new Promise((resolve) =>
            signal?.addEventListener('abort', () => {
              stopped = true;
              resolve('timeout');
            }),
          );
    expect([await ask(waitFor), stopped]).toEqual(['lost', true]);
  });

  it('ends when the client leaves', async () => {
    const client = new AbortController();
    const waitFor: WaitFor = ({ signal }) =>
      new Promise((resolve) => signal?.addEventListener('abort', () => resolve('timeout')));
    const answer = ask(waitFor, [at(0, 1)], client.signal);
    client.abort();
    expect(await answer).toBe('behind');
  });
});

it('a query that waits while the projection runs reads its own write', async () => {
  const [subscriber, publisher] = [new Redis(world.redisUrl), new Redis(world.redisUrl)];
  const waits = createCheckpointWaits({ subscriber, db: world.db, prefix: world.prefix, pollMs: 50 });
  onTestFinished(() => {
    waits.close();
    subscriber.disconnect();
    publisher.disconnect();
  });
  await world.db
    .insertInto('epochs')
    .values({ partition: 0, epoch: 1, first_seq: 1, run_id: 'r', last_seq: null })
    .execute();
  const log = createLog(0);
  const id: JobId = streamId('job', 0, 'j'.repeat(20));
  const spec = { queue: 'default', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 } as const;
  log.append(id, { type: 'JobEnqueued', data: { ...spec, type: 'mail', payload: {} } });
  const jobs = createProjectionGroup({
    db: world.db,
    projection,
    codec,
    onApplied: (partition, to) =>
      publisher.publish(checkpointChannel(world.prefix), `${group} ${partition} ${to.epoch} ${to.seq}`),
  });

  const waiting = ask(waits.waitFor, [at(0, 1)]);
  expect(await findJob(world.db, id)).toBeUndefined();
  await applyAll(jobs, log.events, 1);
  expect(await waiting).toBe('ok');
  expect(await findJob(world.db, id)).toMatchObject({ status: 'queued' });
  expect(await ask(waits.waitFor, [{ partition: 0, epoch: 2, seq: 1 }])).toBe('lost');
});
