import { expect, onTestFinished, vi } from 'vitest';
import { forgetAllReads } from '../../src/access/read-cache.ts';
import { type RecoverDeps, recover } from '../../src/consumers/recovery/recover.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

/** A world of four partitions whose store can be lost and recovered. */
export async function setting(more: Partial<RecoverDeps> = {}) {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world, { fenceIntervalMs: 50 });
  const pool = openPool({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const deps: RecoverDeps = {
    ...{ db: world.db, pool, connection: store.writer, prefix: world.prefix, keys: store.keys },
    ...{ retentionMs: 60_000, reactors: ['notifier'], rewind: async () => {} },
    forgetReads: () => forgetAllReads(store.writer.redis, world.prefix, ''),
    ...more,
  };
  return { world, store, deps, run: (own: Partial<RecoverDeps> = {}) => recover({ ...deps, ...own }, asked) };
}
export const asked = { by: 'a test', reason: 'it is one' };
export const isOpen = (store: OpenEventStore) =>
  vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 10_000);
export const isStopped = (store: OpenEventStore) =>
  vi.waitFor(() => expect(store.fencedBecause()).toMatch(/./), 10_000);
export const keysOf = (store: OpenEventStore, partition = 0) => {
  const keys = store.keys[partition];
  if (!keys) throw new Error('no such partition');
  return keys;
};
