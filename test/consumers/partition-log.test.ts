import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, test } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';
import { LogForkError, openPartitionLog, TAIL_BLOCK_MS } from '../../src/consumers/partition-log.ts';
import { openWaker, WAKE_BLOCK_MS } from '../../src/consumers/waker.ts';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { connectBlocking, connectReader, connectWriter } from '../../src/eventstore/connections.ts';
import { encodeLogEntry, LOG_FIELD } from '../../src/eventstore/log.ts';
import { createKeys, type PartitionKeys } from '../../src/eventstore/partitions.ts';
import { createTold } from '../../src/eventstore/told.ts';
import type { Checkpoint } from '../../src/eventstore/types.ts';
import { until } from './support.ts';

const START: Checkpoint = { epoch: 0, seq: 0, eventId: null };

async function setUp() {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-redis-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  let server = await startRedis({ dir, appendfsync: 'always' });
  onTestFinished(() => server.stop());
  const { url, port } = server;
  const [keys] = createKeys('mill', 1);
  if (!keys) throw new Error('no partition');
  const writer = connectWriter({ url, name: 'writer' });
  const reader = connectReader({ url, name: 'reader' });
  const blocking = connectBlocking({ url, name: 'blocking', blockMs: TAIL_BLOCK_MS });
  onTestFinished(() => {
    for (const each of [writer, reader, blocking]) each.close();
  });
  await Promise.all([writer, reader, blocking].map((each) => each.whenReady(5_000)));
  let epoch = 1;
  const log = openPartitionLog({
    keys,
    blocking,
    reader,
    told: createTold(1),
    epoch: () => epoch,
    readLedger: async () => [],
  });
  const restart = async () => {
    await server.kill();
    server = await startRedis({ dir, port, appendfsync: 'always' });
    await Promise.all([writer, reader, blocking].map((each) => each.whenReady(5_000)));
  };
  const append = (seq: number, data?: string) => appendTo(writer.redis, keys, seq, data);
  const first = log.open();
  const next = (from: Checkpoint, limit: number, by = first) =>
    by.next(from, limit, writer.runId() ?? 'away');
  /** As a recovery leaves it: other events, in a new epoch, at the same server. */
  const makeAnew = async (seq: number) => {
    await writer.redis.unlink(keys.log);
    for (let at = 1; at <= seq; at++) await append(at);
    epoch = 2;
  };
  return { keys, writer, blocking, log, first, next, restart, makeAnew, append };
}

async function appendTo(
  redis: ReturnType<typeof connectWriter>['redis'],
  keys: PartitionKeys,
  seq: number,
  data = '{}',
): Promise<void> {
  const event = encodeLogEntry(`s${seq}` as StreamId, 1, {
    id: `e${seq}` as EventId,
    type: 'T',
    data,
    meta: '{}',
  }).join('');
  await redis.multi().xadd(keys.log, `1-${seq}`, LOG_FIELD, event).hset(keys.meta, 'seq', seq).exec();
}

describe('A partition’s log', () => {
  it('wakes all groups at the tail with one read, and serves who is behind', async () => {
    const { log, next, append, writer } = await setUp();
    await append(1);
    const at1: Checkpoint = { epoch: 1, seq: 1, eventId: 'e1' as never };
    const waiting = [next(at1, 10), next(at1, 10, log.open())];
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/cmd=xread/));
    await append(2);
    for (const batch of await Promise.all(waiting)) expect(batch?.events.map(({ seq }) => seq)).toEqual([2]);
    expect(await writer.redis.info('commandstats')).toMatch(/^cmdstat_xread:calls=1,/m);
    expect((await next(START, 10))?.events.map(({ seq }) => seq)).toEqual([1, 2]);
    expect((await next(START, 1))?.events.map(({ seq }) => seq)).toEqual([1]);
  });

  it('drops what was read before the log was made anew at the same server', async () => {
    const { next, append, makeAnew, writer } = await setUp();
    await append(1);
    const at1: Checkpoint = { epoch: 1, seq: 1, eventId: 'e1' as never };
    const waiting = next(at1, 10);
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/cmd=xread/));
    await append(2, '{"lost":true}');
    expect((await waiting)?.events.map(({ seq }) => seq)).toEqual([2]);
    await makeAnew(1);
    const after = next(at1, 10);
    await append(2, '{"kept":true}');
    expect((await after)?.events.map(({ data }) => data)).toEqual(['{"kept":true}']);
  });

  it('disowns a batch that was read before Redis was restarted', async () => {
    const { first, next, append, restart } = await setUp();
    await append(1);
    const before = await next(START, 10);
    if (!before) throw new Error('no batch');
    expect(first.isCurrent(before)).toBe(true);
    await restart();
    expect(first.isCurrent(before)).toBe(false);
    const after = await next(START, 10);
    expect(after?.events).toEqual(before.events);
    expect(after && first.isCurrent(after)).toBe(true);
  });
});

test('Of large events few are kept for those who are behind: they read for themselves, and miss none', async () => {
  const { log, first, next, append, writer } = await setUp();
  const slow = log.open();

  const large = JSON.stringify('x'.repeat(250_000));
  await append(1);
  let at: Checkpoint = { epoch: 1, seq: 1, eventId: 'e1' as never };
  const second = next(at, 1, slow);
  for (let seq = 2; seq <= 40; seq++) {
    const reading = next(at, 10);
    // Else a range would bring it, and not the tail.
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/flags=b .*cmd=xread/));
    await append(seq, large);
    const last = ((await reading) ?? (await next(at, 10)))?.events.at(-1);
    at = { epoch: 1, seq: last?.seq ?? 0, eventId: last?.id ?? null };
  }
  expect((await second)?.events[0]?.seq).toBe(2);
  const ranges = async () =>
    Number(/cmdstat_xrange:calls=(\d+)/.exec(await writer.redis.info('commandstats'))?.[1] ?? 0);
  const before = await ranges();
  expect((await next({ epoch: 1, seq: 38, eventId: 'e38' as never }, 1, slow))?.events[0]?.seq).toBe(39);
  expect(await ranges()).toBe(before);
  const behind = await next({ epoch: 1, seq: 5, eventId: 'e5' as never }, 2, slow);
  expect(behind?.events.map(({ seq }) => seq)).toEqual([6, 7]);
  expect(await ranges()).toBe(before + 1);
  expect(behind && first.isCurrent(behind)).toBe(true);
});

test('What all readers have read is not kept; who left is not waited for', async () => {
  const { log, next, append, writer } = await setUp();
  const slow = log.open();
  await append(1);
  const at = (seq: number): Checkpoint => ({ epoch: 1, seq, eventId: `e${seq}` as never });
  const second = next(at(1), 1, slow);
  for (let seq = 1; seq < 6; seq++) {
    const reading = next(at(seq), 10);
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/flags=b .*cmd=xread/));
    await append(seq + 1);
    expect(((await reading) ?? (await next(at(seq), 10)))?.events.at(-1)?.seq).toBe(seq + 1);
  }
  await second;
  const ranges = async () =>
    Number(/cmdstat_xrange:calls=(\d+)/.exec(await writer.redis.info('commandstats'))?.[1] ?? 0);
  const before = await ranges();
  expect((await next(at(2), 10, slow))?.events.map(({ seq }) => seq)).toEqual([3, 4, 5, 6]);
  expect(await ranges()).toBe(before);
  slow.close();
  const reading = next(at(6), 10);
  await append(7);
  expect(((await reading) ?? (await next(at(6), 10)))?.events.at(-1)?.seq).toBe(7);
  expect((await next(at(2), 1, log.open()))?.events[0]?.seq).toBe(3);
  expect(await ranges()).toBe(before + 1);
});

test('A log is not read from another server than the lease was taken at; connections that were left behind come after', async () => {
  const { first, next, append, blocking } = await setUp();
  await append(1);
  await next(START, 10);
  const reconnected = new Promise((resolve) => blocking.onReady(resolve));
  await expect(first.next(START, 10, 'another run')).rejects.toThrow(/another server/);
  await reconnected;
  expect((await next(START, 10))?.events.map(({ seq }) => seq)).toEqual([1]);
});

describe('A reader with another event at its checkpoint is stopped there', () => {
  const at = (seq: number, id = `e${seq}`): Checkpoint => ({ epoch: 1, seq, eventId: id as never });
  type Setting = Awaited<ReturnType<typeof setUp>>;
  /** The first reader goes on by an event that comes while it waits. */
  const goOn = async ({ next, append, writer }: Setting, seq: number) => {
    const reading = next(at(seq), 10);
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/flags=b .*cmd=xread/));
    await append(seq + 1);
    expect((await reading)?.events.map((event) => event.seq)).toEqual([seq + 1]);
  };

  it('where all others wait for more', async () => {
    const setting = await setUp();
    const { log, next, append, writer } = setting;
    await append(1);
    const waiting = next(at(1), 10);
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/flags=b .*cmd=xread/));
    await expect(next(at(1, 'another'), 10, log.open())).rejects.toThrow(LogForkError);
    await append(2);
    expect((await waiting)?.events.map(({ seq }) => seq)).toEqual([2]);
  });

  it('where what follows is kept for another that stands there', async () => {
    const setting = await setUp();
    const { log, next, append } = setting;
    await append(1);
    const slow = log.open();
    await goOn(setting, 1);
    await next(at(1), 10, slow);
    const waiting = next(at(2), 10, slow);
    await goOn(setting, 2);
    await waiting;
    await goOn(setting, 3);
    await expect(next(at(2, 'another'), 10, log.open())).rejects.toThrow(LogForkError);
    expect((await next(at(2), 10, slow))?.events.map(({ seq }) => seq)).toEqual([3, 4]);
  });
});

describe('A waker', () => {
  it('wakes a lane that began to wait while the read of another was under way', async () => {
    const { writer, blocking } = await setUp();
    const waker = openWaker(blocking, ['a', 'b']);
    const first = waker.wait(new Map([['a', '0-0']]));
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/cmd=xread/));
    const second = waker.wait(new Map([['b', '0-0']]));
    const begun = performance.now();
    await writer.redis.xadd('b', '*', 'j', 'x');
    await second;
    expect(performance.now() - begun).toBeLessThan(WAKE_BLOCK_MS / 2);
    await writer.redis.xadd('a', '*', 'j', 'x');
    await first;
  });

  it('does not let a lane sleep that looked before an entry came and asks after it was told of', async () => {
    const { writer, blocking } = await setUp();
    const waker = openWaker(blocking, ['a', 'b']);
    const other = waker.wait(new Map([['b', '0-0']]));
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/cmd=xread/));
    await writer.redis.xadd('a', '*', 'j', 'x');
    await other; // woken by the stream that nobody waits for; the next read goes on behind that entry
    void waker.wait(new Map([['b', '0-0']]));
    await until(async () => expect(await writer.redis.client('LIST')).toMatch(/cmd=xread/));
    const begun = performance.now();
    await waker.wait(new Map([['a', '0-0']]));
    expect(performance.now() - begun).toBeLessThan(WAKE_BLOCK_MS / 2);
  });
});
