/**
 * Loaded before `src/main.ts`, and before a job's own process (`NODE_OPTIONS=--import`): adds the suite's job type to the tables of an unchanged
 * installation, and lets its clock be set. Production code is what runs.
 *
 * FAULTS_EFFECTS  a Redis that no fault touches: what handlers do is said there, in the stream `effects`
 * FAULTS_CLOCK    a file with the milliseconds that the clock is to be off by; read at the start and at SIGUSR2
 * FAULTS_TIMING   JSON: shorter leases and heartbeats, written over the constants as the files are loaded
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { isDate } from 'node:util/types';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  shorten(process.env.FAULTS_TIMING);
  setClock(process.env.FAULTS_CLOCK);
  await addJob(process.env.FAULTS_EFFECTS);
}

/** @param timing file (end of its URL) → constant → value */
function shorten(timing: string | undefined): void {
  if (!timing) return;
  const files: Record<string, Record<string, number>> = JSON.parse(timing);
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      const constants = Object.entries(files).find(([file]) => url.endsWith(file))?.[1];
      if (!constants || !loaded.source) return loaded;
      let source =
        typeof loaded.source === 'string' ? loaded.source : new TextDecoder().decode(loaded.source);
      for (const [name, value] of Object.entries(constants)) {
        const line = new RegExp(`^((?:export )?const ${name} = )[\\d_]+;$`, 'm');
        if (!line.test(source)) throw new Error(`${url} has no constant ${name} to shorten`);
        source = source.replace(line, `$1${value};`);
      }
      return { ...loaded, source };
    },
  });
}

/** The wall clock only: what measures durations by a clock that no one sets goes on. */
function setClock(file: string | undefined): void {
  if (!file) return;
  const Real = Date;
  let shiftMs = 0;
  const read = () => {
    try {
      shiftMs = Number(readFileSync(file, 'utf8')) || 0;
    } catch {
      shiftMs = 0;
    }
  };
  read();
  process.on('SIGUSR2', read);
  globalThis.Date = new Proxy(Real, {
    construct(target, args, newTarget) {
      return Reflect.construct(target, args.length === 0 ? [Real.now() + shiftMs] : args, newTarget);
    },
    get(target, name, receiver) {
      if (name === 'now') return () => Real.now() + shiftMs;
      if (name === Symbol.hasInstance) return isDate;
      return Reflect.get(target, name, receiver);
    },
  });
}

async function addJob(effectsUrl: string | undefined): Promise<void> {
  if (!effectsUrl) return;
  const [{ Redis }, { faultsJobs }, { jobTypes, plainJobs }] = await Promise.all([
    import('ioredis'),
    import('./job.ts'),
    import('../../src/features.ts'),
  ]);
  const effects = new Redis(effectsUrl, { lazyConnect: true });
  // A job's own process names its worker's: it was made by that.
  process.env.FAULTS_BY ??= `${process.env.INSTANCE_ID}.${process.pid}`;
  const jobs = faultsJobs({
    by: process.env.FAULTS_BY,
    newRun: () => randomBytes(6).toString('hex'),
    countOf: (job) => effects.incr(`count:${job}`),
    die: () => process.kill(process.pid, 'SIGKILL'),
    async say({ what, job: id, attempt, run, by }) {
      await effects.xadd('effects', '*', 'w', what, 'j', id, 'a', attempt, 'r', run, 'b', by);
    },
  });
  // The tables are arrays that are only typed as if they could not grow.
  for (const table of [plainJobs, jobTypes]) Reflect.apply(Array.prototype.push, table, jobs);
}
