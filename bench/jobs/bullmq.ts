import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import type { Contestant, Payload } from './contestant.ts';
import { redisUrl } from './places.ts';

function connectionOf(url: URL) {
  return {
    host: url.hostname,
    port: Number(url.port),
    ...(url.password ? { password: url.password } : {}),
    db: Number(url.pathname.slice(1) || 0),
  };
}

/** As its users run it. Finished jobs are removed, which is the lighter way: to keep them costs it more. */
export const bullmq: Contestant = {
  name: 'BullMQ',
  part: 1,
  async prepare(place) {
    return {
      async remove() {
        const redis = new Redis(redisUrl());
        const keys = await redis.keys(`bull:${place}:*`);
        for (let from = 0; from < keys.length; from += 1_000)
          await redis.unlink(keys.slice(from, from + 1_000));
        redis.disconnect();
      },
    };
  },
  async producer(place) {
    const queue = new Queue<Payload>(place, { connection: connectionOf(new URL(redisUrl())) });
    await queue.waitUntilReady();
    const opts = { removeOnComplete: true };
    return {
      add: (data) => queue.add('noop', data, opts),
      addMany: (payloads) => queue.addBulk(payloads.map((data) => ({ name: 'noop', data, opts }))),
    };
  },
  async worker(place) {
    return {
      async run(concurrency, seen) {
        const worker = new Worker<Payload>(place, async ({ data }) => seen.started(data), {
          connection: connectionOf(new URL(redisUrl())),
          concurrency,
        });
        worker.on('completed', ({ data }) => seen.done(data));
        worker.on('error', (error) => console.error(error));
        await worker.waitUntilReady();
        return { stop: () => worker.close() };
      },
    };
  },
};
