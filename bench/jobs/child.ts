// One side of one contestant, in a process of its own: does what the bench tells it to, and answers with figures.
import { setTimeout as sleep } from 'node:timers/promises';
import { now, type Payload, type Producer, payloadOf, type Worker } from './contestant.ts';
import { contestants } from './contestants.ts';

const [name, place] = process.argv.slice(2);
const contestant = contestants.find((each) => each.name === name);
if (!contestant || !place) throw new Error(`no contestant ${name}`);

let producer: Promise<Producer> | undefined;
let worker: Promise<Worker> | undefined;
const asProducer = () => (producer ??= contestant.producer(place));
const asWorker = () => (worker ??= contestant.worker(place));

/** What is being worked on: from `work` to `worked`. */
let working: { stop: () => Promise<unknown>; heard: Heard } | undefined;
type Heard = { started: Times; done: Times; lastAt: number };
type Times = { count: number; latencies: number[]; firstAt: number; lastAt: number };

const calls = {
  /** Enqueues one by one. */
  async add({ count, atOnce }: { count: number; atOnce: number }) {
    const side = await asProducer();
    let next = 0;
    return timed(() =>
      Promise.all(
        Array.from({ length: Math.min(atOnce, count) }, async () => {
          while (next < count) await side.add(payloadOf(next++));
        }),
      ),
    );
  },
  /** Enqueues in bulk, one after another. */
  async addMany({ count, size }: { count: number; size: number }) {
    const side = await asProducer();
    return timed(async () => {
      for (let n = 0; n < count; n += size) {
        const sentAt = now();
        const payloads = Array.from({ length: Math.min(size, count - n) }, (_, i) =>
          payloadOf(n + i, sentAt),
        );
        await side.addMany(payloads);
      }
    });
  },
  /** Enqueues by the clock, whether or not earlier ones were answered: a stall shows in every wait it caused. */
  async pace({ rate, seconds }: { rate: number; seconds: number }) {
    const side = await asProducer();
    const start = now();
    return timed(() =>
      Promise.all(
        Array.from({ length: rate * seconds }, async (_, n) => {
          await sleep(Math.max(0, start + (n * 1_000) / rate - now()));
          await side.add(payloadOf(n));
        }),
      ),
    );
  },
  /** Begins to work. */
  async work({ concurrency }: { concurrency: number }) {
    const side = await asWorker();
    const heard: Heard = { started: times(), done: times(), lastAt: 0 };
    const running = await side.run(concurrency, {
      started: (payload) => note(heard.started, payload),
      done: (payload) => note(heard.done, payload),
    });
    working = { stop: running.stop, heard };
    return {};
  },
  /** Ends it, once so many jobs are done; seconds are from the first job's start to the last one's end. */
  async worked({ count }: { count: number }) {
    if (!working) throw new Error('it does not work');
    const side = await asWorker();
    const { heard, stop } = working;
    while (heard.done.count < count) await sleep(1);
    let end = heard.done.lastAt;
    if (side.unfinished) {
      while ((await side.unfinished()) > 0) await sleep(5);
      end = Math.max(end, now());
    }
    await stop();
    working = undefined;
    return {
      seconds: (end - heard.started.firstAt) / 1_000,
      endedAt: end,
      runs: heard.started.count,
      startedMs: quantiles(heard.started),
      doneMs: quantiles(heard.done),
    };
  },
  async cpu() {
    const { user, system } = process.cpuUsage();
    return { microseconds: user + system };
  },
};

export type Calls = typeof calls;

function times(): Times {
  return { count: 0, latencies: [], firstAt: 0, lastAt: 0 };
}

function note(times: Times, { sentAt }: Pick<Payload, 'sentAt'>): void {
  const at = now();
  times.firstAt ||= at;
  times.lastAt = at;
  times.count++;
  times.latencies.push(at - sentAt);
}

function quantiles({ latencies }: Times) {
  const sorted = latencies.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

async function timed(work: () => Promise<unknown>) {
  const startedAt = now();
  await work();
  return { seconds: (now() - startedAt) / 1_000, startedAt };
}

process.on('message', async ({ id, call, input }: { id: number; call: keyof Calls; input: never }) => {
  try {
    process.send?.({ id, result: await calls[call](input) });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
});
process.on('disconnect', () => process.exit());
process.send?.({ id: 0 });
