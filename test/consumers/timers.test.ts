import { expect, onTestFinished, test } from 'vitest';
import { openHints } from '../../src/consumers/hints.ts';
import { promoteScript, TIMERS_GROUP, timersGroup } from '../../src/consumers/timers.ts';
import { connectSubscriber, connectWriter } from '../../src/eventstore/connections.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { randomText } from '../support/connections.ts';
import { startProxy } from '../support/proxy.ts';
import { openWorld, quiet, until } from './support.ts';

test('A timer that is set while its promoter waits for an answer does not wait for the next look by chance', async () => {
  const { world, store } = await openWorld({ partitions: 1 });
  const [keys] = store.keys;
  if (!keys) throw new Error('no partition');
  const { redis } = store.writer;
  const slow = await startProxy(world.redisUrl);
  const connection = connectWriter({ url: slow.url, name: `slow-${world.prefix}`, scripts: [promoteScript] });
  onTestFinished(() => connection.close());
  await connection.whenReady(5_000);
  const subscriber = connectSubscriber({ url: world.redisUrl, name: 'hints' });
  const hints = await openHints({ publisher: redis, subscriber }, world.prefix, ['timers']);
  onTestFinished(() => hints.close());

  const lease = {
    ...{ group: TIMERS_GROUP, partition: 0, token: 7, runId: 'r', lost: new AbortController().signal },
    ...{ held: () => true, secure: () => true, release: async () => {} },
  };
  await redis.hset(keys.lease(TIMERS_GROUP), { owner: 'me#1', token: 7 });
  slow.delay(500);
  const group = timersGroup({
    ...{ redis: connection.redis, keys: store.keys, queues: ['default'], refusesStarts: () => false },
    ...{ hints, logger: quiet, clock: store.clock, metrics: createMetrics({ node: false }) },
  });
  const running = group.start(lease);
  onTestFinished(async () => {
    running.stop();
    await running.ended;
  });
  await until(async () =>
    expect(await redis.client('LIST')).toMatch(new RegExp(`name=slow-${world.prefix} .*cmd=evalsha`)),
  );
  // It has looked and found nothing; the answer is on its way.
  const job = `job-00${randomText(20)}`;
  const due = Date.now() + 50;
  await redis.zadd(keys.timers, due, `00000000000001 ${job}`);
  await redis.hset(keys.timerWork, job, `00000000000001 default normal test ${due} - `);
  hints.publish('timers', `0 ${due}`);
  await until(async () => expect(await redis.zcard(keys.timers)).toBe(0));
  expect(await redis.xlen(keys.work('default', 'normal'))).toBe(1);
});
