import { expect, onTestFinished, test, vi } from 'vitest';
import { foresee, type RecoverDeps, recover } from '../../src/consumers/recovery/recover.ts';
import { type ArchiveFiles, createArchives } from '../../src/eventstore/archive/archives.ts';
import { archiveLedger } from '../../src/eventstore/archive/write.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { append, countFold, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

const asked = { by: 'a test', reason: 'it is one' };

test('a log whose beginning has been archived since, as that of an older file, is compared with the archive', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world, { fenceIntervalMs: 50 });
  const pool = openPool({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const files = new Map<string, Uint8Array>();
  const blobs: ArchiveFiles = {
    write: async (file, bytes) => void files.set(file, bytes),
    read: async (file) => files.get(file) ?? Promise.reject(new Error(`no file ${file}`)),
  };
  const deps: RecoverDeps = {
    ...{ db: world.db, pool, connection: store.writer, prefix: world.prefix, keys: store.keys },
    ...{
      retentionMs: 60_000,
      reactors: [],
      rewind: async () => {},
      forgetReads: async () => {},
      archives: createArchives(blobs),
    },
  };
  const [keys] = store.keys;
  if (!keys) throw new Error('no partition');
  const isOpen = () => vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 10_000);
  const lose = async () => {
    await store.writer.redis.unlink(keys.meta);
    await vi.waitFor(() => expect(store.fencedBecause()).toMatch(/./), 10_000);
  };

  // The ledger takes each over in a batch of its own, with its hash chain.
  const streams = [newStream(0), newStream(0), newStream(0)];
  for (const stream of streams.slice(0, 2)) {
    await store.commit({ partition: 0, appends: [append(stream)] });
    await lose();
    await recover(deps, asked);
    await isOpen();
  }
  await archiveLedger(world.db, blobs, { keepEvents: 1, by: 'test', reason: 'to see' });
  expect(files.size).toBe(1);
  await store.commit({ partition: 0, appends: streams.slice(2).map((stream) => append(stream)) });
  await lose();

  expect((await foresee(deps))?.partitions[0]).toMatchObject({ ledgerSeq: 2, whole: 1, strange: 0 });
  expect((await recover(deps, asked))?.[0]).toMatchObject({ ledgerSeq: 2, whole: 1, strange: 0 });
  await isOpen();
  const [, , last] = streams;
  if (last) expect(await store.load(last, countFold)).toMatchObject({ version: 1 });
});
