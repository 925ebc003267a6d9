import { expect, onTestFinished, test } from 'vitest';
import { readHistory, wholeHistory } from '../../src/eventstore/history.ts';
import { copyToLedger } from '../support/ledger.ts';
import { append, atVersion, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function opened() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  return { world, store };
}

/** A stream of six events among others: three in the ledger, and trimmed from the log, three in the log alone. */
async function halfInTheLedger() {
  const { world, store } = await opened();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  await store.commit({ partition: 0, appends: [append(stream, undefined, 3)] });
  const heldSeq = await copyToLedger(world, store, 0);
  await store.maintain({ partition: 0, heldSeq, trimTo: { epoch: 1, seq: heldSeq } });
  await store.commit({ partition: 0, appends: [append(newStream(0)), append(stream, atVersion(3), 3)] });
  return { world, store, stream };
}

const versions = (events: readonly { version: number }[]) => events.map(({ version }) => version);

test('a stream is read across the seam of ledger and log, all of it or a page at a time', async () => {
  const { store, stream } = await halfInTheLedger();
  const all = await store.history(stream, {});
  expect(versions(all)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(new Set(all.map(({ streamId }) => streamId))).toEqual(new Set([stream]));
  for (const limit of [1, 2, 3, 4, 6, 7]) {
    const pages: number[] = [];
    for (;;) {
      const page = await store.history(stream, { after: pages.length, limit });
      expect(page.length).toBeLessThanOrEqual(limit);
      if (page.length === 0) break;
      pages.push(...versions(page));
    }
    expect(pages).toEqual([1, 2, 3, 4, 5, 6]);
  }
});

test('a stream longer than a page is read to its end', async () => {
  const { store } = await opened();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(stream, undefined, 1_700)] });
  const seen: number[] = [];
  for await (const event of wholeHistory(store, stream)) seen.push(event.version);
  expect(seen).toEqual(Array.from({ length: 1_700 }, (_, index) => index + 1));
});

test('of what nobody ever wrote there is no history, nor of a partition that is not there', async () => {
  const { store, stream } = await halfInTheLedger();
  expect(await store.history(newStream(0), {})).toEqual([]);
  expect(await store.history(newStream(99), {})).toEqual([]);
  expect(await store.history(stream, { after: 6 })).toEqual([]);
});

test('what the ledger has is read also while the log cannot be trusted', async () => {
  const { world, store, stream } = await halfInTheLedger();
  const fence = { ...store.fence, trusted: () => undefined };
  const deps = { connection: store.reader, db: world.db, keys: store.keys, fence };
  const { events, whole } = await readHistory(deps, stream, {});
  expect(versions(events)).toEqual([1, 2, 3]);
  expect(whole).toBe(false);
});
