import { expect, it, onTestFinished } from 'vitest';
import { createClock } from '../../src/eventstore/clock.ts';
import { connectReader } from '../../src/eventstore/connections.ts';
import { ownRedis } from '../support/own-redis.ts';

it('knows the time of Redis no worse after an answer that came late because Redis hung', async () => {
  const redis = await ownRedis();
  const connection = connectReader({ url: redis.url, name: 'clock', replyWithinMs: 10_000 });
  onTestFinished(() => connection.close());
  await connection.whenReady(5_000);
  const clock = createClock(connection);
  onTestFinished(() => clock.close());
  await clock.refresh();
  redis.pause();
  const answer = clock.refresh();
  setTimeout(() => redis.resume(), 1_500);
  await answer;
  // Both run on this machine: half of the round trip would be 750 ms.
  expect(Math.abs(clock.now().getTime() - Date.now())).toBeLessThan(300);
});
