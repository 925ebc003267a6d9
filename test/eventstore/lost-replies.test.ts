import { expect, onTestFinished, test, vi } from 'vitest';
import { commitScripts } from '../../src/eventstore/commit.ts';
import { encodeCommit } from '../../src/eventstore/commit-request.ts';
import { runScript } from '../../src/eventstore/connections.ts';
import { readLogAfter } from '../../src/eventstore/log.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { OutcomeUnknownError, StoreUnavailableError } from '../../src/eventstore/types.ts';
import { startProxy } from '../support/proxy.ts';
import { append, atVersion, newStream, openStore, whole } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

const isCommit = (request: string) => request.includes('evalsha');

async function behindProxy(options: Parameters<typeof openStore>[1] = {}) {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const proxy = await startProxy(world.redisUrl);
  const store = await openStore(world, { redisUrl: proxy.url, ...options });
  const direct = await openStore(world);
  return { proxy, store, direct };
}
async function eventsOf(store: OpenEventStore) {
  const [keys] = store.keys;
  return keys ? readLogAfter(store.reader.redis, keys, { epoch: 0, seq: 0 }, 1_000_000) : [];
}

test('the reply of a commit is dropped: it is asked for again, and nothing is doubled', async () => {
  const { proxy, store, direct } = await behindProxy();
  proxy.dropReplyTo(isCommit);
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, () => store.commit({ partition: 0, appends: [append(newStream(0))] })),
  );
  await proxy.dropped();
  expect(new Set(outcomes.map(({ kind }) => kind))).toEqual(new Set(['committed']));
  const seqs = outcomes.map((outcome) => ('position' in outcome ? outcome.position.seq : 0));
  expect(seqs.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
  expect((await eventsOf(direct)).map(({ seq }) => seq)).toEqual(seqs.toSorted((a, b) => a - b));
});

test('the reply of a commit with a claim is dropped: asked again it is still the one that committed', async () => {
  const { proxy, store, direct } = await behindProxy();
  proxy.dropReplyTo(isCommit);
  const claim = { key: 'k', fingerprint: 'f', answer: 'made', retentionMs: 60_000 };
  const outcome = await store.commit({ partition: 0, appends: [append(newStream(0))], claim });
  expect(outcome).toMatchObject({ kind: 'committed', versions: [1], position: { seq: 1 } });
  expect(await store.commit({ partition: 0, appends: [append(newStream(0))], claim })).toMatchObject({
    kind: 'replayed',
    answer: 'made',
    position: { seq: 1 },
  });
  expect(await eventsOf(direct)).toHaveLength(1);
});

test('under load, with the connection cut again and again, every acknowledged event is there once', async () => {
  const { proxy, store, direct } = await behindProxy();
  const acknowledged: string[] = [];
  const errors: unknown[] = [];
  const cutting = setInterval(proxy.cut, 40);
  onTestFinished(() => clearInterval(cutting));
  const started = performance.now();
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (performance.now() - started < 1_500) {
        const event = append(newStream(0));
        try {
          const outcome = await store.commit({ partition: 0, appends: [event] });
          if (outcome.kind === 'committed') acknowledged.push(event.events[0]?.id ?? '');
          else errors.push(outcome);
        } catch (error) {
          if (!(error instanceof StoreUnavailableError)) errors.push(error);
          await new Promise(setImmediate);
        }
      }
    }),
  );
  clearInterval(cutting);
  expect(errors).toEqual([]);
  const stored = await eventsOf(direct);
  const ids = stored.map(({ id }) => String(id));
  expect(new Set(ids).size).toBe(ids.length);
  expect(acknowledged.length).toBeGreaterThan(0);
  // Refused means not done, so the log holds exactly what was acknowledged.
  expect(ids.toSorted()).toEqual(acknowledged.toSorted());
});

test('a reply that never comes is an outcome unknown, after the deadline; what was not sent is refused', async () => {
  const { proxy, store, direct } = await behindProxy({ deadlineMs: 400, replyWithinMs: 100 });
  const stream = newStream(0);
  proxy.swallowAnswers();
  const started = performance.now();
  await expect(store.commit({ partition: 0, appends: [append(stream)] })).rejects.toThrow(
    OutcomeUnknownError,
  );
  expect(performance.now() - started).toBeLessThan(5_000);
  await expect(store.commit({ partition: 0, appends: [append(newStream(0))] })).rejects.toThrow(
    StoreUnavailableError,
  );
  expect(store.fencedBecause()).toMatch(/not reachable/);
  expect(await eventsOf(direct)).toHaveLength(1);
  // A half-open connection is given up: once the network is back, the store is, too.
  proxy.accept();
  await vi.waitFor(async () => {
    expect(store.fencedBecause()).toBeUndefined();
  }, 10_000);
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(1))] })).toMatchObject({
    kind: 'committed',
  });
});

test('a commit while Redis cannot be reached is refused at once, with nothing done', async () => {
  const { proxy, store, direct } = await behindProxy();
  proxy.refuse();
  await vi.waitFor(() => expect(store.writer.runId()).toBeUndefined(), 10_000);
  const started = performance.now();
  await expect(store.commit({ partition: 0, appends: [append(newStream(0))] })).rejects.toThrow(
    StoreUnavailableError,
  );
  expect(performance.now() - started).toBeLessThan(2_000); // and not at its deadline, 3 s
  proxy.accept();
  await vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 10_000);
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  expect(await eventsOf(direct)).toHaveLength(1);
});

test('slow answers are no lost answers', async () => {
  const { proxy, store, direct } = await behindProxy();
  proxy.delay(300);
  const outcome = await store.commit({ partition: 0, appends: [append(newStream(0))] });
  expect(outcome.kind).toBe('committed');
  expect(await eventsOf(direct)).toHaveLength(1);
});

test('a call that arrives late, after its successor, does nothing; the last one, sent again, gets its reply again', async () => {
  const { direct } = await behindProxy();
  const [names] = direct.keys;
  const trusted = direct.fence.trusted(0);
  if (!names || !trusted) throw new Error('not open');
  await direct.commit({ partition: 0, appends: [append(newStream(0))] });
  await direct.commit({ partition: 0, appends: [append(newStream(0))] });
  const { redis } = direct.writer;
  const [callKey = ''] = await redis.keys(names.claim('call-command-*'));
  const { keys, args } = encodeCommit(names, { partition: 0, appends: [append(newStream(0))] });
  const again = (number: number) =>
    runScript(
      redis,
      commitScripts.command,
      [names.meta, names.log, callKey, ...keys],
      [trusted.storeId, trusted.epoch, direct.writer.runId() ?? '', number, 1_000, 1, ...whole(args)],
    );
  await expect(again(1)).rejects.toThrow(/STALE/);
  expect(await again(2)).toEqual([1, 0, 2]);
  expect(await eventsOf(direct)).toHaveLength(2);
  expect(await again(3)).toEqual([1, 0, 3]);
});

test('what waits while a reply is missing is refused soon, with nothing done', async () => {
  const { proxy, store, direct } = await behindProxy({ deadlineMs: 5_000, replyWithinMs: 200 });
  proxy.swallowAnswers();
  const first = store.commit({ partition: 0, appends: [append(newStream(0))] });
  await vi.waitFor(async () => expect(await eventsOf(direct)).toHaveLength(1), 10_000);
  const started = performance.now();
  await expect(store.commit({ partition: 0, appends: [append(newStream(0))] })).rejects.toThrow(
    StoreUnavailableError,
  );
  expect(performance.now() - started).toBeLessThan(4_000); // and not at its deadline, 5 s
  proxy.accept();
  expect(await first).toMatchObject({ kind: 'committed', position: { seq: 1 } });
  expect(await eventsOf(direct)).toHaveLength(1);
});
