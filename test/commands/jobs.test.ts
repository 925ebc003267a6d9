import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { cancelJob, enqueueJob, type JobCommandDeps, retryJob } from '../../src/commands/jobs/requests.ts';
import {
  openRun,
  phaseOf,
  recordCompletion,
  recordFailure,
  recordStart,
} from '../../src/commands/jobs/runs.ts';
import type { TakenJob } from '../../src/commands/jobs/taken.ts';
import { echoJob } from '../../src/consumers/echo.ts';
import { type JobId, partitionOf } from '../../src/domain/ids.ts';
import { jobOf } from '../../src/domain/job-types.ts';
import { type Job, jobFold } from '../../src/domain/jobs/state.ts';
import { parseWork } from '../../src/eventstore/work-text.ts';
import { context, writeSide } from './support.ts';

const asAda = (key?: string, body?: string) => ({
  ...context(key, body),
  actor: 'acc-00ada',
  owner: 'acc-00ada',
});
const echo = jobOf(echoJob, { hello: 'world' });
const lease = { group: 'lane:default', token: 7 };
const error = { name: 'Error', message: 'no' };

async function jobs() {
  const side = await writeSide();
  const hints: string[] = [];
  const deps: JobCommandDeps = {
    ...side.deps,
    hint: {
      timer: (partition, dueAt) => hints.push(`timer ${partition} ${dueAt}`),
      cancel: (jobId) => hints.push(`cancel ${jobId}`),
    },
  };
  const { redis } = side.store.writer;
  const keysOf = (id: JobId) => {
    const keys = side.store.keys[partitionOf(id)];
    if (!keys) throw new Error('no such partition');
    return keys;
  };
  return {
    ...side,
    deps,
    hints,
    async enqueue(more = {}, key?: string) {
      const result = await enqueueJob(deps, asAda(key), { ...echo, ...more });
      if (result.kind !== 'done') throw new Error(result.kind);
      return result.body.id;
    },
    async phase(id: JobId): Promise<Job['phase']> {
      return (await side.store.load(id, jobFold)).state.phase;
    },
    async timer(id: JobId): Promise<number | undefined> {
      const all = await redis.zrange(keysOf(id).timers, '0', '-1', 'WITHSCORES');
      const at = all.findIndex((member) => member.endsWith(` ${id}`));
      return at < 0 ? undefined : Number(all[at + 1]);
    },
    /** Takes the job's entries as the owner of its lane would. */
    async take(id: JobId): Promise<TakenJob[]> {
      const keys = keysOf(id);
      await redis.hset(keys.lease(lease.group), { owner: 'w', token: lease.token });
      const entries = await redis.xrange(keys.work('default', 'normal'), '-', '+');
      return entries.flatMap(([entryId, [, text = '']]) => {
        const work = parseWork(text);
        if (work?.jobId !== id) return [];
        return [{ jobId: id, queue: 'default', priority: 'normal', entryId, dueAt: work.dueAt, lease }];
      });
    },
  };
}

/** The run that a worker has in hand after a recording. */
function runOf(recorded: Awaited<ReturnType<typeof openRun>>) {
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  return recorded.run;
}
const the = <T>(list: readonly T[]): T => {
  const [first] = list;
  if (first === undefined || list.length !== 1) throw new Error(`there are ${list.length}`);
  return first;
};

describe('enqueueing a job', () => {
  it('puts its event, its state and its work entry into one commit', async () => {
    const { enqueue, store, take, hints } = await jobs();
    const id = await enqueue({ priority: 'normal' });
    const { state, version } = await store.load(id, jobFold);
    expect(state).toMatchObject({
      phase: 'queued',
      spec: { type: 'echo', payload: { hello: 'world' }, owner: 'acc-00ada', maxAttempts: 3 },
    });
    expect(version).toBe(1);
    expect(the(await take(id)).dueAt).toBe('dueAt' in state && state.dueAt);
    expect(hints).toEqual([]);
  });

  it('is one job for one key, however many ask at once', async () => {
    const { deps, store } = await jobs();
    const results = await Promise.all(Array.from({ length: 20 }, () => enqueueJob(deps, asAda('k'), echo)));
    expect(new Set(results.map((result) => (result.kind === 'done' ? result.body.id : ''))).size).toBe(1);
    expect((await store.heads()).reduce((sum, head) => sum + head, 0)).toBe(1);
  });

  it('of many at once makes a commit for each, and few calls', async () => {
    const { deps, store } = await jobs();
    const sent = vi.spyOn(store.writer.redis, 'sendCommand');
    const results = await Promise.all(
      Array.from({ length: 200 }, (_, n) => enqueueJob(deps, asAda(`k${n}`), echo)),
    );
    expect(results.every(({ kind }) => kind === 'done')).toBe(true);
    const calls = sent.mock.calls.filter(([command]) => command.name === 'evalsha');
    // Four partitions, two commits for each job: one to fix its id, one of its own.
    expect(calls.length).toBeLessThanOrEqual(24);
  });

  it('sets a timer for a job with a time to come, and tells those who wait for timers', async () => {
    const { enqueue, phase, take, timer, hints } = await jobs();
    const runAt = new Date(Date.now() + 3_600_000);
    const id = await enqueue({ runAt: runAt.toISOString() });
    expect(await phase(id)).toBe('scheduled');
    expect(await timer(id)).toBe(runAt.getTime());
    expect(await take(id)).toEqual([]);
    expect(hints).toEqual([`timer ${partitionOf(id)} ${runAt.getTime()}`]);
  });

  it('with an ordering key puts it where all of its lane are, and is one job for one idempotency key', async () => {
    const { enqueue, store } = await jobs();
    const ids = await Promise.all(
      Array.from({ length: 20 }, (_, n) => enqueue({ orderingKey: 'a' }, n < 10 ? 'k' : `k${n}`)),
    );
    expect(new Set(ids).size).toBe(11);
    expect(new Set(ids.map(partitionOf)).size).toBe(1);
    const others = await Promise.all(Array.from({ length: 20 }, (_, n) => enqueue({ orderingKey: `b${n}` })));
    expect(new Set(others.map(partitionOf)).size).toBeGreaterThan(1);
    const [first] = ids;
    if (!first) throw new Error('no job');
    const { state } = await store.load(first, jobFold);
    expect(state).toMatchObject({
      spec: { orderingKey: 'a', lane: expect.stringMatching(/^[0-9a-f]{32}$/) },
    });
  });

  it('runs a job whose time has passed at once', async () => {
    const { enqueue, phase, take } = await jobs();
    const id = await enqueue({ runAt: '2020-01-01T00:00:00.000Z' });
    expect(await phase(id)).toBe('queued');
    expect(await take(id)).toHaveLength(1);
  });
});

describe('cancelling', () => {
  it('of a queued job ends it; its work entry runs nothing and goes', async () => {
    const { deps, enqueue, phase, take } = await jobs();
    const id = await enqueue();
    expect(await cancelJob(deps, asAda(), { jobId: id })).toMatchObject({
      kind: 'done',
      body: { id, version: 2, status: 'cancelled' },
    });
    expect(await openRun(deps, the(await take(id)))).toEqual({ kind: 'finished' });
    expect(await take(id)).toEqual([]);
    expect(await phase(id)).toBe('cancelled');
  });

  it('of a scheduled job takes its timer away', async () => {
    const { deps, enqueue, timer } = await jobs();
    const id = await enqueue({ runAt: new Date(Date.now() + 3_600_000).toISOString() });
    await cancelJob(deps, asAda(), { jobId: id });
    expect(await timer(id)).toBeUndefined();
  });

  it('between take and start: the start finds it cancelled', async () => {
    const { deps, enqueue, phase, take } = await jobs();
    const id = await enqueue();
    const run = runOf(await openRun(deps, the(await take(id))));
    await cancelJob(deps, asAda(), { jobId: id });
    expect(await recordStart(deps, run, 'w')).toEqual({ kind: 'finished' });
    expect(await phase(id)).toBe('cancelled');
    expect(await take(id)).toEqual([]);
  });

  it('before the result: the result is refused, and the job ends cancelled', async () => {
    const { deps, enqueue, phase, take, hints } = await jobs();
    const id = await enqueue();
    const run = runOf(await recordStart(deps, runOf(await openRun(deps, the(await take(id)))), 'w'));
    expect(await cancelJob(deps, asAda(), { jobId: id })).toMatchObject({ body: { status: 'running' } });
    expect(hints).toEqual([`cancel ${id}`]);
    expect(phaseOf(runOf(await recordCompletion(deps, run, {})))).toBe('cancelled');
    expect(await phase(id)).toBe('cancelled');
    expect(await take(id)).toEqual([]);
  });

  it('after the result is refused: 409 material', async () => {
    const { deps, enqueue, take } = await jobs();
    const id = await enqueue();
    const run = runOf(await recordStart(deps, runOf(await openRun(deps, the(await take(id)))), 'w'));
    await recordCompletion(deps, run, {});
    expect(await cancelJob(deps, asAda(), { jobId: id })).toMatchObject({
      kind: 'refused',
      refusal: { code: 'job_finished' },
    });
  });

  it('at the same instant as the result: one of them stands, and both sides know which', async () => {
    const { deps, enqueue, phase, take } = await jobs();
    const outcomes = new Set<string>();
    for (let round = 0; round < 20; round++) {
      const id = await enqueue();
      const run = runOf(await recordStart(deps, runOf(await openRun(deps, the(await take(id)))), 'w'));
      const [cancelled, completed] = await Promise.all([
        cancelJob(deps, asAda(), { jobId: id }),
        // Now at once, now a little later: each comes first now and then.
        (round % 2 === 0 ? Promise.resolve() : sleep(20)).then(() => recordCompletion(deps, run, {})),
      ]);
      const stood = cancelled.kind === 'done' ? 'cancelled' : 'succeeded';
      expect(phaseOf(runOf(completed))).toBe(stood);
      expect(await phase(id)).toBe(stood);
      expect(await take(id)).toEqual([]);
      outcomes.add(stood);
    }
    expect([...outcomes].sort()).toEqual(['cancelled', 'succeeded']);
  });

  it('of a job whose worker is dead: the next who opens it ends it, and runs nothing', async () => {
    const { deps, enqueue, phase, take } = await jobs();
    const id = await enqueue();
    runOf(await recordStart(deps, runOf(await openRun(deps, the(await take(id)))), 'dead'));
    await cancelJob(deps, asAda(), { jobId: id });
    const opened = await openRun(deps, the(await take(id)));
    expect(phaseOf(runOf(opened))).toBe('cancelled');
    expect(await phase(id)).toBe('cancelled');
    expect(await take(id)).toEqual([]);
  });

  it('is for the owner: of another’s job there is none', async () => {
    const { deps, enqueue } = await jobs();
    const id = await enqueue();
    const asBob = { ...context(), actor: 'acc-00bob', owner: 'acc-00bob' };
    expect(await cancelJob(deps, asBob, { jobId: id, owner: 'acc-00bob' })).toMatchObject({
      refusal: { code: 'not_found' },
    });
    expect(await cancelJob(deps, asBob, { jobId: id })).toMatchObject({ kind: 'done' });
  });

  it('again with the same key gets the first answer, and without one is refused', async () => {
    const { deps, enqueue } = await jobs();
    const id = await enqueue();
    const first = await cancelJob(deps, asAda('c'), { jobId: id });
    expect(await cancelJob(deps, asAda('c'), { jobId: id })).toEqual({ ...first, replayed: true });
    expect(await cancelJob(deps, asAda('c', 'other'), { jobId: id })).toEqual({ kind: 'key_reused' });
    expect(await cancelJob(deps, asAda(), { jobId: id })).toMatchObject({ kind: 'refused' });
  });
});

describe('retrying', () => {
  it('of a cancelled job runs it once, though its first work entry is still there', async () => {
    const { deps, enqueue, phase, take } = await jobs();
    const id = await enqueue();
    await cancelJob(deps, asAda(), { jobId: id });
    expect(await retryJob(deps, asAda(), { jobId: id })).toMatchObject({
      body: { version: 3, status: 'queued' },
    });
    const [stale, own] = await take(id);
    if (!stale || !own) throw new Error('there should be two entries');
    const run = runOf(await recordStart(deps, runOf(await openRun(deps, own)), 'w'));
    // While it runs, the entry that was left behind is no recovery of it.
    expect(await openRun(deps, stale)).toEqual({ kind: 'finished' });
    expect(phaseOf(runOf(await recordCompletion(deps, run, {})))).toBe('succeeded');
    expect(await take(id)).toEqual([]);
    expect(await phase(id)).toBe('succeeded');
  });

  it('of a failed job whose state has left Redis finds all that it was in the ledger and the log', async () => {
    const { deps, enqueue, take, store } = await jobs();
    const id = await enqueue({ maxAttempts: 1 });
    const run = runOf(await recordStart(deps, runOf(await openRun(deps, the(await take(id)))), 'w'));
    const failed = await recordFailure(deps, run, {
      error,
      retryAt: new Date(),
      final: false,
      worker: 'w',
      ignoredAbort: false,
    });
    expect(phaseOf(runOf(failed))).toBe('failed');
    const keys = store.keys[partitionOf(id)];
    const heads = await store.heads();
    await store.writer.redis.unlink(keys?.state(id) ?? '');
    await store.writer.redis.hset(keys?.meta ?? '', 'evicted', heads[partitionOf(id)] ?? 0);
    expect(await retryJob(deps, asAda(), { jobId: id })).toMatchObject({ body: { version: 4 } });
    const again = runOf(await openRun(deps, the(await take(id))));
    expect(again).toMatchObject({ attempt: 2, turn: 1, spec: { payload: { hello: 'world' } } });
  });

  it('again with the same key gets the first answer, wherever the job is by then', async () => {
    const { deps, enqueue, take } = await jobs();
    const id = await enqueue();
    await cancelJob(deps, asAda(), { jobId: id });
    const first = await retryJob(deps, asAda('r'), { jobId: id });
    const own = (await take(id)).at(-1);
    if (!own) throw new Error('no entry');
    await recordStart(deps, runOf(await openRun(deps, own)), 'w');
    expect(await retryJob(deps, asAda('r'), { jobId: id })).toEqual({ ...first, replayed: true });
  });

  it('of a job that waits is refused', async () => {
    const { deps, enqueue } = await jobs();
    expect(await retryJob(deps, asAda(), { jobId: await enqueue() })).toMatchObject({
      refusal: { code: 'job_not_retryable' },
    });
  });
});
