import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';
import { createKeys, partitionTags, slotOf } from '../../src/eventstore/partitions.ts';

const SLOTS = 16_384;

let redis: Redis;
let stop: () => Promise<void>;
beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-slots-'));
  const extra = ['--cluster-enabled', 'yes'];
  const server = await startRedis({ dir, appendonly: 'no', extra });
  redis = new Redis(server.url);
  stop = async () => {
    redis.disconnect();
    await server.stop();
    await rm(dir, { recursive: true });
  };
});
afterAll(() => stop());

test.each([1, 2, 4, 8, 16, 32, 64])(
  '%i partitions are spread evenly over 1 to 8 masters, by the slots that Redis itself computes',
  async (partitions) => {
    const keys = createKeys('mill', partitions);
    const slots = await Promise.all(keys.map(({ log }) => redis.cluster('KEYSLOT', log)));

    expect(slots).toEqual(keys.map(({ tag }) => slotOf(tag)));
    for (let masters = 1; masters <= 8; masters++) {
      const held = Array<number>(masters).fill(0);
      for (const slot of slots) {
        const master = Math.floor((slot * masters) / SLOTS);
        held[master] = (held[master] ?? 0) + 1;
      }
      expect(
        Math.max(...held) - Math.min(...held),
        `${partitions} on ${masters}: ${held}`,
      ).toBeLessThanOrEqual(1);
    }
  },
);

test('all keys of a partition share its slot', () => {
  const [keys] = createKeys('mill', 1);
  const tag = /\{(.+?)\}/;
  const names = [
    keys?.meta,
    keys?.timers,
    keys?.timerWork,
    keys?.state('job-00abc'),
    keys?.claim('k'),
    keys?.lease('projection:jobs@2'),
    keys?.work('default', 'high'),
    keys?.blocked('default'),
    keys?.parked('default', 'a{b}c'),
    keys?.cursor('r'),
  ];
  expect(new Set(names.map((name) => name?.match(tag)?.[1]))).toEqual(new Set([keys?.tag]));
});

test('tags never change: they are where the data is', () => {
  expect(partitionTags(4)).toMatchInlineSnapshot(`
    [
      "0.9",
      "1.11",
      "2.1",
      "3.s",
    ]
  `);
  expect(new Set(partitionTags(64)).size).toBe(64);
});

test('a number of partitions that cannot be is refused', () => {
  for (const partitions of [0, 1.5, 1025, Number.NaN]) {
    expect(() => partitionTags(partitions)).toThrow(/between 1 and 1024/);
  }
});
