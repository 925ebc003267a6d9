import { onTestFinished } from 'vitest';
import { createHmacs } from '../../src/access/signing.ts';
import { changeOf, encodeChange } from '../../src/commands/handle.ts';
import { createNotifier } from '../../src/consumers/notifier.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { createReactorGroup } from '../../src/consumers/reactor.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { jobFold } from '../../src/domain/jobs/state.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { OrderedGroup } from '../../src/eventstore/types.ts';
import { randomText } from '../support/connections.ts';
import { eventsInLog } from '../support/log.ts';
import type { World } from '../support/world.ts';
import { roleDeps } from './support.ts';

const hmac = createHmacs(Buffer.alloc(32, 3));
export const notifier = createNotifier((purpose, text) => hmac(purpose, text).toString('hex'));
export const callbackUrl = 'https://hooks.example.com/jobs';
const KEEP_ALL = { windowEvents: 1_000_000, retentionMs: 0, everyMs: 60_000 };

export const group = (store: OpenEventStore) =>
  createReactorGroup({ store, randomText, now: () => new Date() }, notifier);

export async function start(
  world: World,
  store: OpenEventStore,
  groups: readonly OrderedGroup[] = [group(store)],
  trim = KEEP_ALL,
) {
  const projectors = await startProjectors({ ...roleDeps(world, store), groups, trim });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= projectors.stop());
  onTestFinished(stop);
  await projectors.ready();
  return { stop };
}

export const ends = {
  succeeded: (url?: string, result: unknown = { n: 1 }): JobEvent => ({
    type: 'JobCompleted',
    data: { type: 'echo', attempt: 1, result, ...(url ? { callbackUrl: url } : {}) },
  }),
  failed: (url?: string): JobEvent => ({
    type: 'JobDeadLettered',
    data: {
      type: 'echo',
      attempt: 1,
      error: { name: 'Error', message: 'no', stack: 'at our insides' },
      ...(url ? { callbackUrl: url } : {}),
    },
  }),
  cancelled: (url?: string): JobEvent => ({
    type: 'JobCancelled',
    data: { type: 'echo', attempts: 1, ...(url ? { callbackUrl: url } : {}) },
  }),
};

/** A job that was enqueued and has ended so, in one commit. */
export async function endJob(store: OpenEventStore, end: JobEvent, partition = 0): Promise<JobId> {
  const jobId = streamId('job', partition, randomText(20));
  const spec = { type: 'echo', payload: {}, queue: 'default', priority: 'normal' } as const;
  const enqueued: JobEvent = {
    type: 'JobEnqueued',
    data: { ...spec, maxAttempts: 1, timeoutSeconds: 60, callbackUrl },
  };
  const stream = {
    streamId: jobId,
    state: jobFold.initial,
    version: 0,
    expected: { kind: 'minted' as const },
  };
  const context = { actor: 'test', owner: 'acc-1', correlation: 'c-1' };
  const change = changeOf(context, new Date().toISOString(), stream, jobFold, [enqueued, end]);
  const outcome = await store.commit({ partition, appends: [encodeChange({ randomText }, context, change)] });
  if (outcome.kind !== 'committed') throw new Error(outcome.kind);
  return jobId;
}

/** What was enqueued to tell of ends, in the order of the log. */
export async function told(store: OpenEventStore, partition = 0) {
  return (await eventsInLog(store, partition)).flatMap((event) => {
    const data = JSON.parse(event.data);
    if (event.type !== 'JobEnqueued' || data.type !== 'http.request') return [];
    return [{ ...data.payload, meta: JSON.parse(event.meta), jobId: event.streamId }];
  });
}

export const idsTold = async (store: OpenEventStore, partition = 0): Promise<string[]> =>
  (await told(store, partition)).map(({ body }) => String(body.id));

export const cursorOf = (store: OpenEventStore, partition = 0) =>
  store.reader.redis.get(store.keys[partition]?.cursor('notifier') ?? '');
