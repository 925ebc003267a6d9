// Jobs with a handler that does nothing, against BullMQ on the same Redis, and pg-boss and graphile-worker on the
// same Postgres: one producer process, one worker process.
import { randomBytes } from 'node:crypto';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { finish, median, readOptions, report, reportMachine } from './harness.ts';
import type { Contestant } from './jobs/contestant.ts';
import { contestants } from './jobs/contestants.ts';
import { redisUrl } from './jobs/places.ts';
import { type Side, startSide } from './jobs/process.ts';

const ROWS = [
  'one by one',
  'bulk',
  'concurrency 1',
  'concurrency 10',
  'concurrency 50',
  'through',
  'latency',
  'memory',
] as const;
const values = readOptions(
  'jobs',
  'Jobs whose handler does nothing, against BullMQ, pg-boss and graphile-worker.',
  {
    rounds: { takes: 'count', default: 5, help: 'how often each contestant has its turn' },
    jobs: { takes: 'count', default: 20_000, help: 'jobs for each row' },
    warm: { takes: 'count', default: 20_000, least: 0, help: 'jobs before it counts' },
    rate: { takes: 'count', default: 200, help: 'jobs a second, of the row latency' },
    seconds: { takes: 'count', default: 5, help: 'how long the row latency takes' },
    only: { takes: 'names', of: contestants.map(({ name }) => name), parts: true, help: 'contestants' },
    rows: { takes: 'names', of: ROWS, help: 'what is measured' },
  },
);
const { rounds, jobs, warm, only, rows } = values;
const [baseline] = contestants;
const taking = contestants.filter(({ name }) => !only || only.some((part) => name.includes(part)));

const redis = new Redis(redisUrl());
const figures = new Map<string, Map<string, number>[]>();

const info = await redis.info('server');
reportMachine({
  redis: /redis_version:(\S+)/.exec(info)?.[1],
  appendfsync: (await redis.config('GET', 'appendfsync')) as unknown,
  jobs,
  warm,
});
// A rewrite takes a core for half a second, and falls upon one round and not on the next.
const REWRITE = 'auto-aof-rewrite-percentage';
const [, rewritten = '100'] = (await redis.config('GET', REWRITE)) as string[];
await redis.config('SET', REWRITE, '0');
try {
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < taking.length; turn++) {
      const contestant = taking[(turn + round) % taking.length];
      if (contestant) await runContestant(contestant, round);
    }
  }
} finally {
  await redis.config('SET', REWRITE, rewritten);
}
conclude();
redis.disconnect();

async function runContestant(contestant: Contestant, round: number): Promise<void> {
  const place = `b${randomBytes(2).toString('hex')}`;
  const own = new Map<string, number>();
  figures.set(contestant.name, [...(figures.get(contestant.name) ?? []), own]);
  const prepared = await contestant.prepare(place);
  const count = Math.max(500, Math.round(jobs * contestant.part));
  const producer = await startSide(contestant.name, place);
  const worker = await startSide(contestant.name, place);
  const note = (row: string, value: number, more: object = {}) => {
    own.set(row, value);
    report({ bench: 'jobs', round, contestant: contestant.name, row, value: rounded(value), ...more });
  };
  const wanted = (row: string) => !rows || rows.includes(row);
  const process = async (row: string, concurrency: number, part: number) => {
    const run = await spent(worker, () => workOff(worker, concurrency, part));
    note(row, part / run.result.seconds, { ...run.cpu(part), runs: run.result.runs });
  };
  try {
    // As long as V8 takes to compile what is hot; a process that works has done so.
    const before = Math.max(1_000, Math.round(warm * contestant.part));
    await bulk(producer, before);
    await workOff(worker, 50, before);
    if (wanted('one by one') || wanted('concurrency 50')) {
      const run = await spent(producer, () => producer.call('add', { count, atOnce: 64 }));
      note('one by one', count / run.result.seconds, run.cpu(count));
      await process('concurrency 50', 50, count);
    }
    if (wanted('bulk') || wanted('concurrency 10')) {
      const run = await spent(producer, () => bulk(producer, count));
      note('bulk', count / run.result.seconds, run.cpu(count));
      await process('concurrency 10', 10, count);
    }
    if (wanted('concurrency 1')) {
      await bulk(producer, count / 4);
      await process('concurrency 1', 1, count / 4);
    }
    if (wanted('through')) {
      await worker.call('work', { concurrency: 50 });
      const { startedAt } = await bulk(producer, count);
      const { endedAt } = await worker.call('worked', { count });
      note('through', (count / (endedAt - startedAt)) * 1_000);
    }
    if (wanted('latency')) await measureLatency(producer, worker, note);
    await producer.stop();
    if (wanted('memory') && !contestant.name.match(/pg-boss|graphile/)) {
      note('memory', await bytesOfWaiting(contestant, place, prepared.settle));
    }
  } finally {
    await Promise.all([producer.stop(), worker.stop()]);
    await prepared.remove();
  }
}

function bulk(producer: Side, count: number) {
  return producer.call('addMany', { count, size: 500 });
}

async function workOff(worker: Side, concurrency: number, count: number) {
  await worker.call('work', { concurrency });
  return worker.call('worked', { count });
}

async function measureLatency(
  producer: Side,
  worker: Side,
  note: (row: string, value: number) => void,
): Promise<void> {
  const { rate, seconds } = values;
  await worker.call('work', { concurrency: 10 });
  await sleep(500);
  await producer.call('pace', { rate, seconds });
  const { startedMs, doneMs } = await worker.call('worked', { count: rate * seconds });
  note('started p50 ms', startedMs.p50);
  note('started p99 ms', startedMs.p99);
  note('done p50 ms', doneMs.p50);
  note('done p99 ms', doneMs.p99);
}

/** What each further waiting job takes of Redis' memory: the second so many, as the first bring fixed costs. */
async function bytesOfWaiting(contestant: Contestant, place: string, settle?: () => Promise<void>) {
  const used: number[] = [];
  for (let fill = 0; fill < 2; fill++) {
    const producer = await startSide(contestant.name, place);
    await bulk(producer, jobs);
    await producer.stop();
    await settle?.();
    await sleep(200);
    used.push(await usedMemory());
  }
  return ((used[1] ?? 0) - (used[0] ?? 0)) / jobs;
}

async function usedMemory(): Promise<number> {
  const memory = await redis.info('memory');
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(memory)?.[1]);
  return field('used_memory') - field('mem_clients_normal') - field('mem_aof_buffer');
}

/** Runs something; with it, what it took of processor time for each job: by its process, by Redis, by the machine. */
async function spent<T>(side: Side, run: () => Promise<T>) {
  const before = await Promise.all([side.call('cpu', {}), redisCpu(), machineCpu(), performance.now()]);
  const result = await run();
  const after = await Promise.all([side.call('cpu', {}), redisCpu(), machineCpu(), performance.now()]);
  const elapsed = (after[3] - before[3]) * 1_000;
  return {
    result,
    cpu: (count: number) => ({
      cpuMicroseconds: rounded((after[0].microseconds - before[0].microseconds) / count),
      redisMicroseconds: rounded((after[1] - before[1]) / count),
      busyCores: rounded((after[2] - before[2]) / elapsed),
    }),
  };
}

async function redisCpu(): Promise<number> {
  const cpu = await redis.info('cpu');
  const field = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(cpu)?.[1]);
  return (field('used_cpu_sys') + field('used_cpu_user')) * 1e6;
}

function machineCpu(): number {
  return cpus().reduce(
    (sum, { times }) => sum + (times.user + times.sys + times.nice + times.irq) * 1_000,
    0,
  );
}

function conclude(): void {
  const base = baseline && figures.get(baseline.name);
  const ratio = (name: string, row: string) =>
    median(
      (figures.get(name) ?? []).map((own, round) => (own.get(row) ?? NaN) / (base?.[round]?.get(row) ?? NaN)),
    );
  for (const [contestant, own] of figures) {
    for (const row of own[0]?.keys() ?? []) {
      const value = median(own.map((each) => each.get(row) ?? NaN));
      const against = ratio(contestant, row);
      report({ bench: 'jobs', contestant, row, median: rounded(value), ratio: rounded(against) });
    }
  }
  const [engine, whole] = ['Millrace, engine', 'Millrace, whole'];
  const against = `of ${baseline?.name}'s`;
  finish(ratio(engine, 'done p99 ms'), `latency p99 at ${values.rate} jobs/s, ${against} (aim ≤ 1.0)`);
  finish(ratio(whole, 'memory'), `bytes per waiting job, once the ledger has it, ${against} (aim ≤ 1.0)`);
  finish(ratio(engine, 'memory'), `bytes per waiting job, with its event in the log, ${against}`);
  finish(
    ratio(whole, 'concurrency 50'),
    `whole: processed at concurrency 50, until ledger and read model have it, ${against} (aim ≥ 0.5)`,
  );
  finish(
    ratio(engine, 'concurrency 50'),
    `engine: processed at concurrency 50, projectors stopped, ${against} (aim ≥ 1.3)`,
  );
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
