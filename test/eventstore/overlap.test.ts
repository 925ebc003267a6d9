import { expect, onTestFinished, test } from 'vitest';
import { collectFindings } from '../../src/eventstore/verify/findings.ts';
import { verifyOverlap } from '../../src/eventstore/verify/overlap.ts';
import { copyToLedger } from '../support/ledger.ts';
import { append, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

/** Six events, of which the ledger has four. */
async function setting() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const [keys] = store.keys;
  if (!keys) throw new Error('no partition');
  const one = () => store.commit({ partition: 0, appends: [append(newStream(0))] });
  for (let n = 0; n < 4; n++) await one();
  await copyToLedger(world, store, 0);
  for (let n = 0; n < 2; n++) await one();
  const verified = async () => {
    const findings = collectFindings();
    const events = await verifyOverlap(store.reader.redis, world.db, keys, findings);
    return { events, found: findings.first().map(({ kind, detail }) => `${kind}: ${detail}`) };
  };
  return { redis: store.writer.redis, keys, verified };
}

test('a log that goes on where the ledger ends is right, trimmed or not', async () => {
  const { redis, keys, verified } = await setting();
  expect(await verified()).toEqual({ events: 4, found: [] });
  await redis.xtrim(keys.log, 'MINID', '1-4');
  expect(await verified()).toEqual({ events: 1, found: [] });
  await redis.xtrim(keys.log, 'MINID', '1-5');
  expect(await verified()).toEqual({ events: 0, found: [] });
});

test('what is in neither log nor ledger is found', async () => {
  const { redis, keys, verified } = await setting();
  await redis.xtrim(keys.log, 'MINID', '1-6');
  expect((await verified()).found).toEqual([
    expect.stringMatching(/^missing_event: seq 5 to 5 is in neither/),
  ]);
});

test('a log that ends before the ledger, or was emptied, is found', async () => {
  const { redis, keys, verified } = await setting();
  for (const id of ['1-4', '1-5', '1-6']) await redis.xdel(keys.log, id);
  expect((await verified()).found).toEqual([
    expect.stringMatching(/^missing_event: the log ends at seq 3, the ledger at 4/),
  ]);
  await redis.unlink(keys.log);
  expect((await verified()).found).toEqual([expect.stringMatching(/^missing_event: the log ends at seq 0/)]);
});

test('a hole in the log is found', async () => {
  const { redis, keys, verified } = await setting();
  await redis.xdel(keys.log, '1-5');
  expect((await verified()).found).toEqual(['missing_event: seq 5 to 5 is not in the log']);
});
