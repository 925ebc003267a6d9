import { describe, expect, it } from 'vitest';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { jobAsOf } from '../../src/projections/jobs/as-of.ts';
import { createLog } from './support/histories.ts';

const id: JobId = streamId('job', 0, 'a'.repeat(20));
const spec = { queue: 'default', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 } as const;
const type = 'echo';
const error = { name: 'Error', message: 'no' };
const told: JobEvent[] = [
  { type: 'JobEnqueued', data: { ...spec, type, payload: {}, runAt: '2026-01-01T00:00:00.000Z' } },
  { type: 'JobStarted', data: { type, attempt: 1, worker: 'w', recovered: false } },
  { type: 'JobAttemptFailed', data: { type, attempt: 1, error, retryAt: '2026-01-01T00:00:00.000Z' } },
  { type: 'JobCancelled', data: { type, attempts: 1 } },
  { type: 'JobRetried', data: { type, attempts: 1, dueAt: '2026-01-01T00:00:00.000Z' } },
  { type: 'JobStarted', data: { type, attempt: 2, worker: 'w', recovered: false } },
  { type: 'JobCancelRequested', data: { type } },
  { type: 'JobCancelled', data: { type, attempts: 2 } },
];
const log = createLog(0);
for (const event of told) log.append(id, event, 'acc-1');
const timeOf = (version: number) => new Date(JSON.parse(log.events[version - 1]?.meta ?? '{}').at);

async function* history(events = log.events) {
  yield* events;
}

describe('a job as it was', () => {
  it.each([
    [1, 'scheduled', 0],
    [2, 'running', 1],
    [3, 'retrying', 1],
    [4, 'cancelled', 1],
    [5, 'queued', 1],
    [6, 'running', 2],
    [7, 'running', 2],
    [8, 'cancelled', 2],
  ])('in version %i was %s, by version and by time', async (version, status, attempts) => {
    const found = await jobAsOf(history(), { version });
    expect(found).toMatchObject({ owner: 'acc-1', job: { id, version, status, attempts } });
    expect(await jobAsOf(history(), { at: timeOf(version) })).toEqual(found);
    expect(found?.job.finishedAt).toBe(status === 'cancelled' ? timeOf(version).toISOString() : undefined);
  });

  it('was not there before it was enqueued, and is not there in a version that is to come', async () => {
    expect(await jobAsOf(history(), { at: new Date(timeOf(1).getTime() - 1) })).toBeUndefined();
    expect(await jobAsOf(history(), { version: 9 })).toBeUndefined();
    expect(await jobAsOf(history([]), { version: 1 })).toBeUndefined();
  });

  it('is never a fold with a gap, though a clock was ahead', async () => {
    const ahead = log.events.map((event) =>
      event.version === 2 ? { ...event, meta: event.meta.replace(/"at":"2026/, '"at":"2027') } : event,
    );
    expect(await jobAsOf(history(ahead), { at: timeOf(8) })).toMatchObject({ job: { version: 1 } });
  });
});
