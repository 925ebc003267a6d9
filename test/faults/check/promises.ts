import type { History, Violation } from '../history.ts';
import { type JobRecord, jobsOf } from './jobs.ts';

/** What clients were told, against what the ledger holds. */
export function checkPromises({ promises, asked, events }: History): Violation[] {
  const jobs = jobsOf(events);
  const byWish = new Map<number, string[]>();
  for (const [jobId, [first]] of jobs) {
    const n = first?.data.payload?.n;
    if (first?.type === 'JobEnqueued' && n !== undefined) byWish.set(n, [...(byWish.get(n) ?? []), jobId]);
  }
  const found: Violation[] = [];
  for (const { n, outcome, jobIds } of promises) {
    const its = byWish.get(n) ?? [];
    if (its.length > 1) found.push({ count: 'doubled', what: `wish ${n} is ${its.join(' and ')}` });
    if (outcome === 'refused' && its.length > 0)
      found.push({ count: 'refusedYetDone', what: `wish ${n} is ${its.join(', ')}` });
    if (outcome !== 'acknowledged') continue;
    if (its.length === 0)
      found.push({ count: 'missing', what: `wish ${n}, answered as ${jobIds.join(', ')}` });
    for (const jobId of jobIds) {
      if (its.length > 0 && !its.includes(jobId))
        found.push({ count: 'missing', what: `wish ${n} was answered as ${jobId} and is ${its.join(', ')}` });
    }
  }
  const wanted = { cancel: ['JobCancelRequested', 'JobCancelled'], retry: ['JobRetried'] };
  for (const { what, jobId, outcome } of asked) {
    const its: readonly JobRecord[] = jobs.get(jobId) ?? [];
    if (outcome === 'acknowledged' && !its.some(({ type }) => wanted[what].includes(type)))
      found.push({ count: 'missing', what: `the ${what} of ${jobId}` });
  }
  return found;
}
