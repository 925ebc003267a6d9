import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import type { Contestant, Payload } from './contestant.ts';
import { counter, createDatabase, databaseUrl, dropDatabase } from './places.ts';

const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});

/** Batched: jobs are fetched 500 at a time, and completed together. */
const batched = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

export const graphileWorker: Contestant = {
  name: 'graphile-worker, batched',
  part: 0.5,
  async prepare(place) {
    await createDatabase(place);
    const utils = await makeWorkerUtils({ connectionString: databaseUrl(place), logger });
    await utils.migrate();
    await utils.release();
    return { remove: () => dropDatabase(place) };
  },
  async producer(place) {
    const utils = await makeWorkerUtils({ connectionString: databaseUrl(place), maxPoolSize: 20, logger });
    return {
      add: (payload) => utils.addJob('noop', payload),
      addMany: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: 'noop', payload }))),
    };
  },
  async worker(place) {
    return {
      async run(concurrency, seen) {
        const runner = await run({
          connectionString: databaseUrl(place),
          concurrency,
          maxPoolSize: 20,
          noHandleSignals: true,
          logger,
          preset: { worker: batched },
          taskList: {
            noop: async (payload) => {
              seen.started(payload as Payload);
              seen.done(payload as Payload);
            },
          },
        });
        return { stop: () => runner.stop() };
      },
      unfinished: counter(place, 'SELECT count(*) AS n FROM graphile_worker.jobs'),
    };
  },
};
