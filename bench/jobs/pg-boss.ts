import { PgBoss } from 'pg-boss';
import type { Contestant, Payload } from './contestant.ts';
import { counter, createDatabase, databaseUrl, dropDatabase } from './places.ts';

const QUEUE = 'noop';
/** Fetched, and completed, together: the handler is given a batch. */
const BATCH = 100;

async function open(place: string): Promise<PgBoss> {
  const boss = new PgBoss({
    connectionString: databaseUrl(place),
    max: 20,
    supervise: false,
    schedule: false,
    useListenNotify: true,
  });
  boss.on('error', (error) => console.error(error));
  await boss.start();
  return boss;
}

/** Batched, and woken by NOTIFY, as its documentation advises for speed. */
export const pgBoss: Contestant = {
  name: 'pg-boss',
  part: 0.1,
  async prepare(place) {
    await createDatabase(place);
    const boss = await open(place);
    await boss.createQueue(QUEUE, { notify: true });
    await boss.stop({ graceful: false });
    return { remove: () => dropDatabase(place) };
  },
  async producer(place) {
    const boss = await open(place);
    return {
      add: (payload) => boss.send(QUEUE, payload),
      addMany: (payloads) =>
        boss.insert(
          QUEUE,
          payloads.map((data) => ({ data })),
        ),
    };
  },
  async worker(place) {
    const boss = await open(place);
    return {
      async run(concurrency, seen) {
        // A handler is given a batch, and works on it one by one: so many handlers for so much at once.
        const options = {
          batchSize: BATCH,
          localConcurrency: Math.max(1, Math.floor(concurrency / 10)),
          burstWhenBatchFull: true,
          pollingIntervalSeconds: 0.5,
          notifyPollingIntervalSeconds: 0.5,
        };
        await boss.work<Payload>(QUEUE, options, async (jobs) => {
          for (const { data } of jobs) seen.started(data);
          for (const { data } of jobs) seen.done(data);
        });
        return { stop: () => boss.offWork(QUEUE) };
      },
      unfinished: counter(place, `SELECT count(*) AS n FROM pgboss.job WHERE state < 'completed'`),
    };
  },
};
