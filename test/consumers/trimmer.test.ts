import { sql } from 'kysely';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { createTrimmer, type TrimmerDeps } from '../../src/consumers/trimmer.ts';
import type { StreamId } from '../../src/domain/ids.ts';
import { readLogAfter } from '../../src/eventstore/log.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { append, atVersion, countFold, minted, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

const partition = 0;

async function trimmed(
  settings: Pick<TrimmerDeps, 'windowEvents' | 'retentionMs' | 'sessionLifetimeMs'> = {
    windowEvents: 0,
    retentionMs: 0,
  },
) {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const pool = openPool({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const ledger = createLedger(pool, world.db);
  let at = await ledger.open(partition, 1);
  /** One batch: all that the ledger does not have yet. */
  const record = async () => {
    const keys = store.keys[partition];
    if (!keys) throw new Error('no partition');
    at = await ledger.apply(partition, at, await readLogAfter(store.reader.redis, keys, at, 1_000), 1);
  };
  const trimmer = createTrimmer({ db: world.db, store, ...settings });
  const kept = (id: StreamId) => store.reader.redis.exists(store.keys[partition]?.state(id) ?? '');
  const length = () => store.reader.redis.xlen(store.keys[partition]?.log ?? '');
  return { world, store, trimmer, kept, length, record };
}

/** Commits `first`, then an event of this type, on a new stream. */
async function streamEndingWith(store: OpenEventStore, type: string): Promise<StreamId> {
  const id = newStream(partition);
  await store.commit({ partition, appends: [append(id, minted)] });
  const last = append(id, atVersion(1));
  await store.commit({
    partition,
    appends: [{ ...last, events: last.events.map((event) => ({ ...event, type })) }],
  });
  return id;
}

describe('the trimmer', () => {
  it('evicts the states of what has ended, and of nothing else', async () => {
    const { store, trimmer, kept, record } = await trimmed();
    const done = await streamEndingWith(store, 'JobCompleted');
    const dead = await streamEndingWith(store, 'JobDeadLettered');
    const givenUp = await streamEndingWith(store, 'JobDiscarded');
    const alive = await streamEndingWith(store, 'JobStarted');
    await record();
    expect(await trimmer.trim(partition)).toMatchObject({ evicted: 3 });
    expect(await Promise.all([done, dead, givenUp, alive].map(kept))).toEqual([0, 0, 0, 1]);
  });

  it('keeps the state of a job that was retried, until it has ended again', async () => {
    const { store, trimmer, kept, record } = await trimmed();
    const next = async (id: StreamId, version: number, type: string) => {
      const after = append(id, atVersion(version));
      const events = after.events.map((event) => ({ ...event, type }));
      await store.commit({ partition, appends: [{ ...after, events }] });
    };
    const retried = await streamEndingWith(store, 'JobCancelled');
    await next(retried, 2, 'JobRetried');
    await record();
    expect(await trimmer.trim(partition)).toMatchObject({ evicted: 0 });
    expect(await kept(retried)).toBe(1);
    await next(retried, 3, 'JobDeadLettered');
    await record();
    expect(await trimmer.trim(partition)).toMatchObject({ evicted: 1 });
  });

  it('evicts nothing, and trims nothing, that the ledger does not have', async () => {
    const { store, trimmer, kept, length } = await trimmed();
    const done = await streamEndingWith(store, 'JobCompleted');
    expect(await trimmer.trim(partition)).toEqual({ evicted: 0, trimmed: 0 });
    expect(await kept(done)).toBe(1);
    expect(await length()).toBe(2);
  });

  it('leaves a stream that was evicted what it was: it cannot be begun again', async () => {
    const { store, trimmer, record } = await trimmed();
    const id = newStream(partition);
    const before = await store.load(id, countFold);
    await store.commit({ partition, appends: [append(id, minted)] });
    const last = append(id, atVersion(1));
    await store.commit({
      partition,
      appends: [{ ...last, events: last.events.map((event) => ({ ...event, type: 'JobCompleted' })) }],
    });
    await record();
    await trimmer.trim(partition);
    // Absence that was proven before those events is proven no more.
    expect(await store.commit({ partition, appends: [append(id, before.expected)] })).toMatchObject({
      kind: 'conflict',
    });
  });

  it('keeps a window of the log behind the ledger', async () => {
    const { store, trimmer, length, record } = await trimmed({ windowEvents: 3, retentionMs: 0 });
    for (let i = 0; i < 10; i++) {
      await store.commit({ partition, appends: [append(newStream(partition))] });
      await record();
    }
    await trimmer.trim(partition);
    expect(await length()).toBe(3);
  });

  it('keeps events for as long as it should, also where the clock of its machine is ahead', async () => {
    const { store, trimmer, length, record } = await trimmed({ windowEvents: 1, retentionMs: 600_000 });
    for (let i = 0; i < 3; i++) {
      await store.commit({ partition, appends: [append(newStream(partition))] });
      await record();
    }
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    await trimmer.trim(partition);
    expect(await length()).toBe(3);
  });

  it('evicts the states of sessions that nobody refreshed for as long as they last, though no event ends them', async () => {
    const day = 86_400_000;
    const { world, store, trimmer, kept, record } = await trimmed({
      ...{ windowEvents: 0, retentionMs: 0, sessionLifetimeMs: 30 * day },
    });
    const [left, refreshed, young] = [1, 2, 3].map(() => newStream(partition, 'ses'));
    if (!left || !refreshed || !young) throw new Error('no streams');
    await store.commit({ partition, appends: [append(left), append(refreshed)] });
    await record();
    await sql`UPDATE ledger_batches SET appended_at = now() - interval '31 days'`.execute(world.db);
    await store.commit({ partition, appends: [append(refreshed, atVersion(1)), append(young)] });
    await record();
    await trimmer.trim(partition);
    expect(await Promise.all([left, refreshed, young].map(kept))).toEqual([0, 1, 1]);
    expect(await store.load(left, countFold)).toMatchObject({ version: 1, state: { count: 1 } });
    // It goes round: what is over by the next time is found then, unless something came since that the ledger has not got.
    await sql`UPDATE ledger_batches SET appended_at = now() - interval '31 days'`.execute(world.db);
    await store.commit({ partition, appends: [append(young, atVersion(1))] });
    await trimmer.trim(partition);
    expect(await Promise.all([left, refreshed, young].map(kept))).toEqual([0, 0, 1]);
  });
});
