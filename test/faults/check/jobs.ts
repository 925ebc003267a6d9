import type { RawEvent } from '../../../src/domain/event.ts';

/** An event of a job, with its data as far as the checker knows it. */
export type JobRecord = {
  readonly seq: number;
  readonly partition: number;
  readonly jobId: string;
  readonly version: number;
  readonly type: string;
  readonly data: Data;
  /** When it was decided, ms since 1970, by the clock of who did. */
  readonly at: number;
};

type Data = {
  readonly type?: string;
  readonly attempt?: number;
  readonly worker?: string;
  readonly recovered?: boolean;
  readonly reason?: string;
  readonly queue?: string;
  readonly orderingKey?: string;
  readonly concurrencyKey?: string;
  readonly concurrencyLimit?: number;
  readonly runAt?: string;
  readonly retryAt?: string;
  readonly until?: string;
  readonly payload?: { readonly n?: number };
  readonly result?: { readonly run?: string; readonly by?: string };
};

/** Events of jobs by job, in their order. The checker reads them as they lie in the ledger, by no code of `src`. */
export function jobsOf(events: readonly RawEvent[]): ReadonlyMap<string, readonly JobRecord[]> {
  const jobs = new Map<string, JobRecord[]>();
  for (const { streamId: jobId, partition, seq, version, type, data, meta } of events) {
    if (!jobId.startsWith('job-')) continue;
    const { at }: { at: string } = JSON.parse(meta);
    const record = {
      jobId,
      partition,
      seq,
      version,
      type,
      data: JSON.parse(data) as Data,
      at: Date.parse(at),
    };
    const known = jobs.get(jobId);
    if (known) known.push(record);
    else jobs.set(jobId, [record]);
  }
  return jobs;
}
