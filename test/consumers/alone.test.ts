import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { cancelJob } from '../../src/commands/jobs/requests.ts';
import { startWorkers, type WorkerDeps } from '../../src/consumers/workers.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { testJob } from '../support/test-jobs.ts';
import type { World } from '../support/world.ts';
import { children, isAlive, runs } from './processes.ts';
import {
  commandsOn,
  enqueue,
  history,
  jobDeps,
  jobState,
  openWorld,
  orphan,
  roleDeps,
  until,
} from './support.ts';

const entry = join(import.meta.dirname, '..', 'support', 'worker-child.ts');

/** Workers in this process; jobs that run alone get processes of their own, which end with the test. */
async function start(world: World, store: OpenEventStore, more: Partial<WorkerDeps> = {}) {
  const spawned: ChildProcess[] = [];
  const spawn = () => {
    const child = fork(entry, {
      env: { ...process.env, REDIS_URL: world.redisUrl, PREFIX: world.prefix, INSTANCE_ID: 'here' },
      execArgv: ['--max-old-space-size=64'],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    spawned.push(child);
    return child;
  };
  const say = (word: string, jobId: string, attempt: number) =>
    store.writer.redis.rpush(`${world.prefix}:runs`, `${word} ${jobId} ${attempt} here`);
  const deps = { ...roleDeps(world, store), ...jobDeps(store) };
  const workers = await startWorkers({
    ...deps,
    jobs: [testJob('here', say)],
    spawn,
    concurrency: 1,
    drainMs: 2_000,
    random: Math.random,
    ...more,
  });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= workers.stop());
  onTestFinished(async () => {
    await stop();
    for (const child of spawned) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }
  });
  await workers.ready();
  return { stop, spawn, metrics: deps.metrics };
}

const types = async (...of: Parameters<typeof history>) => (await history(...of)).map(({ type }) => type);

describe('A job that runs alone', () => {
  it('has its progress, its result and its log lines taken over by its worker', async () => {
    const { world, store } = await openWorld();
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line) => void lines.push(line) });
    const id = await orphan(store, { payload: { ms: 0, how: 'chatter' }, owner: 'acc-1' });
    await start(world, store, { logger });
    await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'));
    const events = await history(store, id);
    expect(events.map(({ type, data }) => [type, data.alone, data.progress, data.result])).toEqual([
      ['JobEnqueued', undefined, undefined, undefined],
      ['JobStarted', undefined, undefined, undefined],
      ['JobStarted', true, undefined, undefined],
      ['JobProgressed', undefined, 40, undefined],
      ['JobCompleted', undefined, undefined, { by: 'here' }],
    ]);
    expect(events[3]?.data.detail).toEqual({ rows: 4 });
    const line = lines.map((text) => JSON.parse(text)).find(({ msg }) => msg === 'four rows');
    expect(line).toMatchObject({ jobId: id, jobType: 'test', attempt: 1, rows: 4 });
    expect(await runs(world, store, id)).toEqual(['begin 1 here alone', 'end 1 here alone']);
  });

  it('has a large result taken over whole, also by a worker that is busy: its process waits until it is gone', async () => {
    const { world, store } = await openWorld();
    const id = await orphan(store, { payload: { ms: 0, how: 'verbose' } });
    await start(world, store);
    const busy = setInterval(() => {
      for (const end = performance.now() + 40; performance.now() < end; );
    }, 50);
    onTestFinished(() => clearInterval(busy));
    await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'), 20_000);
    const events = await history(store, id);
    const expected = ['JobEnqueued', 'JobStarted', 'JobStarted', 'JobCompleted'];
    expect(events.map(({ type }) => type)).toEqual(expected);
    expect(events.at(-1)?.data.result.by).toHaveLength(250_000);
  });

  it('fails as it would anywhere: the error is the same, and its next attempt is one among others', async () => {
    const { world, store } = await openWorld();
    const id = await orphan(store, { payload: { ms: 0, how: 'fail' }, maxAttempts: 2 });
    await start(world, store);
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'));
    const [first, second] = (await history(store, id)).flatMap(({ data }) => data.error ?? []);
    expect(first).toMatchObject({ name: 'TypeError', message: `no luck with ${id}` });
    expect(first.stack).toContain('test-jobs.ts');
    expect(second.fingerprint).toBe(first.fingerprint);
    expect(await runs(world, store, id)).toEqual(['begin 1 here alone', 'begin 2 here']);
  });

  it('may say that trying again is of no use, and may put itself off', async () => {
    const { world, store } = await openWorld();
    const hopeless = await orphan(store, { payload: { ms: 0, how: 'hopeless' } });
    const snoozing = await orphan(store, { payload: { ms: 0, how: 'snooze' } });
    await start(world, store);
    await until(async () => expect((await jobState(store, hopeless)).phase).toBe('failed'));
    await until(async () =>
      expect(await jobState(store, snoozing)).toMatchObject({ phase: 'succeeded', attempts: 1 }),
    );
    expect((await history(store, hopeless)).at(-1)?.data).toMatchObject({ reason: 'no_retry', attempt: 1 });
  });

  it('waits for its process without a slot: its neighbours go on', async () => {
    const { world, store } = await openWorld();
    const suspects = [
      await orphan(store, { payload: { ms: 2_000, how: 'deaf' } }),
      await orphan(store, { payload: { ms: 2_000, how: 'deaf' } }),
    ] as const;
    await start(world, store, { concurrency: 1 });
    await until(async () => expect(await children(world, store)).toHaveLength(1));
    const neighbours = await Promise.all(
      Array.from({ length: 20 }, () => enqueue(store, { payload: { ms: 0 } })),
    );
    await until(async () => {
      for (const id of neighbours) expect((await jobState(store, id)).phase).toBe('succeeded');
    });
    expect((await jobState(store, suspects[0])).phase).toBe('running');
    await until(async () => {
      for (const id of suspects) expect((await jobState(store, id)).phase).toBe('succeeded');
    }, 20_000);
  });

  it('is killed when its time is up, and then runs alone again', async () => {
    const { world, store } = await openWorld();
    const payload = { ms: 600_000, how: 'hang' };
    const id = await orphan(store, { payload, timeoutSeconds: 1, maxAttempts: 2 });
    await start(world, store);
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'), 25_000);
    const events = await history(store, id);
    expect(events.map(({ type }) => type)).toEqual([
      'JobEnqueued',
      'JobStarted',
      'JobStarted',
      'JobAttemptFailed',
      'JobStarted',
      'JobDeadLettered',
    ]);
    expect(events.slice(2)).toMatchObject([
      { data: { alone: true, attempt: 1 } },
      { data: { ignoredAbort: true, error: { name: 'JobTimeoutError' } } },
      { data: { alone: true, attempt: 2 } },
      { data: { ignoredAbort: true, reason: 'attempts' } },
    ]);
    for (const pid of await children(world, store)) expect(isAlive(pid)).toBe(false);
  });

  it('is told when somebody cancels it, also while it waits for its process', async () => {
    const { world, store } = await openWorld();
    const first = await orphan(store, { payload: { ms: 60_000 }, owner: 'acc-1' });
    const second = await orphan(store, { payload: { ms: 60_000 }, owner: 'acc-1' });
    await start(world, store);
    await until(async () => expect(await children(world, store)).toHaveLength(1));
    const { deps, context } = commandsOn(store, world.prefix);
    for (const jobId of [second, first]) {
      await cancelJob(deps, context('acc-1'), { jobId, owner: 'acc-1' });
      await until(async () => expect((await jobState(store, jobId)).phase).toBe('cancelled'));
    }
    expect(await children(world, store)).toHaveLength(1);
  });

  it('and ends its process three times is a dead letter that quotes how; the log has its last words', async () => {
    const { world, store } = await openWorld();
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line) => void lines.push(line) });
    const id = await orphan(store, { payload: { ms: 0, how: 'stray' } });
    await start(world, store, { logger });
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'), 20_000);
    expect((await history(store, id)).at(-1)?.data).toMatchObject({
      reason: 'takedowns',
      error: { message: expect.stringContaining('exit status 1') },
    });
    const fatal = lines.map((text) => JSON.parse(text)).filter(({ level }) => level === 60);
    expect(fatal).toMatchObject(Array(3).fill({ jobId: id, err: { message: 'nobody catches this' } }));
  });

  it('is interrupted when its worker stops, be it deaf: no takedown, and no process is left', async () => {
    const { world, store } = await openWorld();
    const id = await orphan(store, { payload: { ms: 60_000, how: 'deaf' } });
    const next = await orphan(store, { payload: { ms: 0 } });
    const { stop } = await start(world, store);
    await until(async () => expect((await runs(world, store, id)).length).toBe(1));
    await stop();
    expect(await jobState(store, id)).toMatchObject({ phase: 'queued', suspect: true, takedowns: 0 });
    expect((await types(store, id)).at(-1)).toBe('JobInterrupted');
    // The other waited for a process: a worker that stops begins nothing.
    expect(await runs(world, store, next)).toEqual([]);
    expect(await jobState(store, next)).toMatchObject({ phase: 'running', alone: false, takedowns: 0 });
    for (const pid of await children(world, store)) expect(isAlive(pid)).toBe(false);
  });

  it('for which there is no process has not begun: that is nobody’s fault, and it waits for one', async () => {
    const { world, store } = await openWorld();
    const id = await orphan(store, { payload: { ms: 0 } });
    let asked = 0;
    let spawn: () => ChildProcess = () => {
      asked++;
      if (asked === 1) throw new Error('no more processes');
      return fork(join(import.meta.dirname, 'no-such-file.ts'), { stdio: 'ignore' });
    };
    const { spawn: right } = await start(world, store, { spawn: () => spawn() });
    await until(() => expect(asked).toBeGreaterThanOrEqual(4));
    spawn = right;
    await until(async () =>
      expect(await jobState(store, id)).toMatchObject({ phase: 'succeeded', attempts: 1 }),
    );
    const said = await types(store, id);
    expect(said.filter((type) => type === 'JobInterrupted').length).toBeGreaterThanOrEqual(4);
    expect(said).not.toContain('JobDeadLettered');
  });
});
