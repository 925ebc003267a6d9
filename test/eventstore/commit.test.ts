import { expect, onTestFinished, test, vi } from 'vitest';
import { commitScripts } from '../../src/eventstore/commit.ts';
import { encodeCommit } from '../../src/eventstore/commit-request.ts';
import { runScript } from '../../src/eventstore/connections.ts';
import { readLogAfter } from '../../src/eventstore/log.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { CommitRequest } from '../../src/eventstore/types.ts';
import { append, atVersion, minted, newStream, openStore, whole } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function fresh(options: Parameters<typeof openStore>[1] = {}) {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  return openStore(world, options);
}
const log = (store: OpenEventStore, partition = 0) => {
  const keys = store.keys[partition];
  if (!keys) throw new Error('no such partition');
  return readLogAfter(store.reader.redis, keys, { epoch: 0, seq: 0 }, 10_000);
};
const keysOf = (store: OpenEventStore, partition = 0) => {
  const keys = store.keys[partition];
  if (!keys) throw new Error('no such partition');
  return keys;
};
const claim = (key: string, fingerprint = 'f1', answer = '{"id":"a b"}') => ({
  key,
  fingerprint,
  answer,
  retentionMs: 60_000,
});

test('committed: events, versions, state and position', async () => {
  const store = await fresh();
  const stream = newStream(1);
  const first = append(stream, minted, 2);
  const outcome = await store.commit({ partition: 1, appends: [first] });
  expect(outcome).toEqual({
    kind: 'committed',
    position: { partition: 1, epoch: 1, seq: 2 },
    versions: [2],
  });
  expect(await log(store, 1)).toEqual(
    first.events.map((event, index) => ({
      partition: 1,
      epoch: 1,
      seq: index + 1,
      streamId: stream,
      version: index + 1,
      ...event,
    })),
  );
  expect(await store.reader.redis.get(keysOf(store, 1).state(stream))).toBe('2 2 0 1 {"count":2}');
  expect(await store.heads()).toEqual([0, 2, 0, 0]);
});

test('committed: several streams of a partition in one commit, with work and a timer', async () => {
  const store = await fresh();
  const [job, email] = [newStream(0), newStream(0, 'email')];
  const work = { queue: 'default', priority: 'high', jobId: job, type: 'export', dueAt: 5 };
  const outcome = await store.commit({
    partition: 0,
    appends: [append(job), append(email, minted, 3)],
    work: [{ ...work, traceparent: '00-a-b-01' }],
    timers: [{ ...work, dueAt: 77 }],
  });
  expect(outcome).toMatchObject({ kind: 'committed', position: { seq: 4 }, versions: [1, 3] });
  const { redis } = store.reader;
  const keys = keysOf(store);
  expect((await redis.xrange(keys.work('default', 'high'), '-', '+')).map(([, fields]) => fields)).toEqual([
    ['w', `${job} export 5 - 00-a-b-01`],
  ]);
  expect(await redis.zrange(keys.timers, '0', '-1', 'WITHSCORES')).toEqual([`00000000000004 ${job}`, '77']);
  expect(await redis.hgetall(keys.timerWork)).toEqual({ [job]: '00000000000004 default high export 77 - ' });
});

test('committed: a timer is taken away in the same commit, and a job without one passed over', async () => {
  const store = await fresh();
  const [job, other] = [newStream(0), newStream(0)];
  const timer = { queue: 'default', priority: 'high', jobId: job, type: 'export', dueAt: 77 };
  const timers = [timer, { ...timer, jobId: other }];
  await store.commit({ partition: 0, appends: [append(job), append(other)], timers });
  const keys = keysOf(store);
  const cancelledTimers = [job, newStream(0)];
  const { kind } = await store.commit({
    partition: 0,
    appends: [append(job, atVersion(1))],
    cancelledTimers,
  });
  expect(kind).toBe('committed');
  expect(await store.reader.redis.zrange(keys.timers, '0', '-1')).toEqual([`00000000000002 ${other}`]);
  expect(await store.reader.redis.hkeys(keys.timerWork)).toEqual([other]);
  const refused = { partition: 0, appends: [append(job, atVersion(1))], cancelledTimers: [other] };
  expect((await store.commit(refused)).kind).toBe('conflict');
  expect(await store.reader.redis.zrange(keys.timers, '0', '-1')).toEqual([`00000000000002 ${other}`]);
});

test('a claim is found by its key, with the answer and the position of its commit', async () => {
  const store = await fresh();
  await store.commit({ partition: 0, appends: [append(newStream(0), minted, 2)], claim: claim('k') });
  const { fingerprint, answer } = claim('k');
  expect(await store.findClaim(0, claim('k').key)).toEqual({
    fingerprint,
    answer,
    position: { partition: 0, epoch: 1, seq: 2 },
  });
  expect(await store.findClaim(0, 'another')).toBeUndefined();
  expect(await store.findClaim(1, claim('k').key)).toBeUndefined();
});

test('committed: a finished work entry is acked and deleted in the same commit', async () => {
  const store = await fresh();
  const job = newStream(0);
  const work = { queue: 'default', priority: 'high', jobId: job, type: 'export', dueAt: 5 };
  await store.commit({ partition: 0, appends: [append(job)], work: [work] });
  const { redis } = store.writer;
  const key = keysOf(store).work('default', 'high');
  await redis.xgroup('CREATE', key, 'lane', '0');
  await redis.xreadgroup('GROUP', 'lane', 'p0', 'COUNT', 1, 'STREAMS', key, '>');
  const entryId = (await redis.xrange(key, '-', '+'))[0]?.[0] ?? '';
  await store.commit({
    partition: 0,
    appends: [append(job, atVersion(1))],
    finished: [{ queue: 'default', priority: 'high', entryId }],
    memory: 'completion',
  });
  expect(await redis.xlen(key)).toBe(0);
  expect(await redis.xpending(key, 'lane')).toEqual([0, null, null, null]);
});

test('committed: an ordering key is freed by the job that holds it, and where it is said by which entry, by that one', async () => {
  const store = await fresh();
  const { redis } = store.writer;
  const names = keysOf(store);
  const [holder, other, next] = [newStream(0), newStream(0), newStream(0)];
  await redis.hset(names.blocked('default'), 'lane', `${holder} 7`);
  await redis.rpush(names.parked('default', 'lane'), `${next} export 9 lane `);
  const free = (jobId: typeof holder, dueAt?: number) =>
    store.commit({
      partition: 0,
      appends: [],
      freed: [{ queue: 'default', lane: 'lane', jobId, ...(dueAt === undefined ? {} : { dueAt }) }],
    });
  const held = () => redis.hget(names.blocked('default'), 'lane');
  await free(other);
  await free(holder, 6);
  expect(await held()).toBe(`${holder} 7`);
  await free(holder, 7);
  expect(await held()).toBe(`${next} 9`);
  expect(await redis.xlen(names.work('default', 'normal'))).toBe(1);
  await free(next);
  expect(await held()).toBeNull();
});

test('committed: many commits of one tick travel in one call, each with a result of its own', async () => {
  const store = await fresh();
  const stream = newStream(0);
  const requests: CommitRequest[] = [
    { partition: 0, appends: [append(stream)] },
    { partition: 0, appends: [append(stream, atVersion(1))] },
    { partition: 0, appends: [append(stream, atVersion(1))] },
    { partition: 0, appends: [append(newStream(0))], claim: claim('k') },
    { partition: 0, appends: [append(newStream(0))], claim: claim('k') },
    { partition: 0, appends: [append(newStream(0))], lease: { group: 'lane:x', token: 5 } },
    { partition: 0, appends: [append(newStream(0), minted, 2)] },
  ];
  const sent = vi.spyOn(store.writer.redis, 'sendCommand');
  const outcomes = await Promise.all(requests.map((request) => store.commit(request)));
  expect(outcomes.map(({ kind }) => kind)).toEqual([
    'committed',
    'committed',
    'conflict',
    'committed',
    'replayed',
    'lease_lost',
    'committed',
  ]);
  expect(sent.mock.calls.filter(([{ name }]) => name === 'evalsha')).toHaveLength(1);
  expect((await log(store)).map(({ seq, version }) => [seq, version])).toEqual([
    [1, 1],
    [2, 2],
    [3, 1],
    [4, 1],
    [5, 2],
  ]);
  expect(await store.heads()).toEqual([5, 0, 0, 0]);
});

test('conflict: another version, or an unknown one, and nothing is done', async () => {
  const store = await fresh();
  const [stream, other] = [newStream(0), newStream(0)];
  await store.commit({ partition: 0, appends: [append(stream)] });
  const attempt = await store.commit({
    partition: 0,
    appends: [append(other), append(stream, atVersion(2))],
    claim: claim('k'),
  });
  expect(attempt).toEqual({ kind: 'conflict', streamId: stream });
  // Absent means unknown, never 0.
  expect(await store.commit({ partition: 0, appends: [append(other, atVersion(0))] })).toMatchObject({
    kind: 'conflict',
  });
  expect(await log(store)).toHaveLength(1);
  expect(await store.reader.redis.exists(keysOf(store).claim('k'))).toBe(0);
});

test('conflict: a stream that exists is refused to whoever says that it was minted just now', async () => {
  const store = await fresh();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(stream)] });
  expect(await store.commit({ partition: 0, appends: [append(stream)] })).toEqual({
    kind: 'conflict',
    streamId: stream,
  });
});

test('conflict: two that expect the same version, exactly one wins', async () => {
  const store = await fresh();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(stream)] });
  const both = await Promise.all(
    Array.from({ length: 20 }, () => store.commit({ partition: 0, appends: [append(stream, atVersion(1))] })),
  );
  expect(both.filter(({ kind }) => kind === 'committed')).toHaveLength(1);
});

test('conflict: a state from before the last recovery counts as absent', async () => {
  const store = await fresh();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(stream)] });
  await store.writer.redis.hset(keysOf(store).meta, 'recovery', 1);
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(1))] })).toMatchObject({
    kind: 'conflict',
  });
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(1, 1))] })).toMatchObject({
    kind: 'committed',
    versions: [2],
  });
});

test('conflict: absence that was proven before an eviction must be proven again', async () => {
  const store = await fresh();
  await store.writer.redis.hset(keysOf(store).meta, 'evicted', 10);
  const stream = newStream(0);
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(0, 9))] })).toMatchObject({
    kind: 'conflict',
  });
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(0, 10))] })).toMatchObject({
    kind: 'committed',
  });
});

test('replayed: the same key and fingerprint get the first answer and its position', async () => {
  const store = await fresh();
  const stream = newStream(0);
  const first = await store.commit({ partition: 0, appends: [append(stream, minted, 2)], claim: claim('k') });
  await store.commit({ partition: 0, appends: [append(stream, atVersion(2))] });
  const again = await store.commit({
    partition: 0,
    appends: [append(newStream(0))],
    claim: claim('k', 'f1', 'no'),
  });
  expect(first).toMatchObject({ kind: 'committed', position: { seq: 2 } });
  expect(again).toEqual({
    kind: 'replayed',
    position: { partition: 0, epoch: 1, seq: 2 },
    answer: '{"id":"a b"}',
  });
  expect(await log(store)).toHaveLength(3);
});

test('claim_reused: the same key with another fingerprint', async () => {
  const store = await fresh();
  await store.commit({ partition: 0, appends: [append(newStream(0))], claim: claim('k') });
  expect(
    await store.commit({ partition: 0, appends: [append(newStream(0))], claim: claim('k', 'f2') }),
  ).toEqual({ kind: 'claim_reused' });
});

test('a commit may be its claim alone', async () => {
  const store = await fresh();
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  const first = await store.commit({ partition: 0, appends: [], claim: claim('k', 'f1', 'job-1') });
  const second = await store.commit({ partition: 0, appends: [], claim: claim('k', 'f1', 'job-2') });
  expect(first).toEqual({ kind: 'committed', position: { partition: 0, epoch: 1, seq: 1 }, versions: [] });
  expect(second).toMatchObject({ kind: 'replayed', answer: 'job-1', position: { seq: 1 } });
});

test('lease_lost: no lease, or another token; with the right one it commits', async () => {
  const store = await fresh();
  const request = (token: number): CommitRequest => ({
    partition: 0,
    lease: { group: 'lane:default', token },
    appends: [append(newStream(0))],
  });
  expect(await store.commit(request(7))).toEqual({ kind: 'lease_lost' });
  await store.writer.redis.hset(keysOf(store).lease('lane:default'), { owner: 'a', token: 8 });
  expect(await store.commit(request(7))).toEqual({ kind: 'lease_lost' });
  expect(await store.commit(request(8))).toMatchObject({ kind: 'committed' });
});

test('what no caller may ask for is refused before anything is sent', async () => {
  const store = await fresh();
  const stream = newStream(0);
  const refused: [CommitRequest, RegExp][] = [
    [{ partition: 0, appends: [append(stream), append(stream, atVersion(1))] }, /twice/],
    [{ partition: 1, appends: [append(stream)] }, /not of partition 1/],
    [{ partition: 0, appends: [{ ...append(stream), events: [] }] }, /nothing/],
    [{ partition: 0, appends: [], claim: claim('k', 'has space') }, /fingerprint/],
    [{ partition: 99, appends: [] }, /no partition/],
  ];
  for (const [request, message] of refused) await expect(store.commit(request)).rejects.toThrow(message);
  expect(await store.heads()).toEqual([0, 0, 0, 0]);
});

test('a server that has lost its scripts gets them again, and nothing is doubled', async () => {
  const store = await fresh();
  await store.writer.redis.script('FLUSH');
  const outcomes = await Promise.all(
    Array.from({ length: 5 }, () => store.commit({ partition: 0, appends: [append(newStream(0))] })),
  );
  expect(outcomes.map(({ kind }) => kind)).toEqual(Array(5).fill('committed'));
  expect(await log(store)).toHaveLength(5);
});

test('every outcome is measured, errors by their name', async () => {
  const seen: string[] = [];
  const store = await fresh({ onCommit: (outcome) => seen.push(outcome), memoryLimitBytes: 1 });
  await expect(store.commit({ partition: 0, appends: [append(newStream(0))] })).rejects.toThrow(/too full/);
  await store.commit({ partition: 0, appends: [append(newStream(0))], memory: 'completion' });
  expect(seen).toEqual(['MemoryGuardError', 'committed']);
});

test("a reactor's cursor moves with what it does, and never from where it is not", async () => {
  const store = await fresh();
  const lease = { group: 'notifier', token: 7 };
  await store.writer.redis.hset(keysOf(store).lease('notifier'), 'token', '7');
  const moving = (from: string, to: string, token = 7) => ({
    partition: 0,
    lease: { ...lease, token },
    cursor: { reactor: 'notifier', from, to },
  });
  const cursor = () => store.reader.redis.get(keysOf(store).cursor('notifier'));

  const first = await store.commit({ ...moving('', '1 1 a'), appends: [append(newStream(0))] });
  expect(first.kind).toBe('committed');
  expect(await cursor()).toBe('1 1 a');
  // Without events, too.
  expect((await store.commit({ ...moving('1 1 a', '1 9 b'), appends: [] })).kind).toBe('committed');
  expect(await cursor()).toBe('1 9 b');

  for (const stale of [moving('1 1 a', '1 10 c'), moving('', '1 10 c'), moving('1 9 b', '1 10 c', 6)]) {
    const outcome = await store.commit({ ...stale, appends: [append(newStream(0))] });
    expect(outcome.kind).toBe('lease_lost');
  }
  expect(await cursor()).toBe('1 9 b');
  expect(await log(store)).toHaveLength(1);
});

test('fenced: what was decided at another epoch, server or store is refused, with nothing done', async () => {
  const store = await fresh();
  const names = keysOf(store);
  const { redis } = store.writer;
  const trusted = store.fence.trusted(0);
  if (!trusted) throw new Error('the partition is fenced');
  const { keys, args } = encodeCommit(names, { partition: 0, appends: [append(newStream(0))] });
  const commitAs = (storeId: string, epoch: number, runId: string) =>
    runScript(
      redis,
      commitScripts.command,
      [names.meta, names.log, `${names.meta}:calls`, ...keys],
      [storeId, epoch, runId, 1, 1_000, 1, ...whole(args)],
    );
  const { storeId, epoch, runId } = trusted;
  await expect(commitAs('another store', epoch, runId)).rejects.toThrow(/FENCED/);
  await expect(commitAs(storeId, epoch + 1, runId)).rejects.toThrow(/FENCED/);
  await expect(commitAs(storeId, epoch, 'another server')).rejects.toThrow(/FENCED/);
  expect(await log(store)).toEqual([]);
  expect(await commitAs(storeId, epoch, runId)).toEqual([epoch, 0, 1]);
});
