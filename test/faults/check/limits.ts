import type { History, Violation } from '../history.ts';
import { jobsOf } from './jobs.ts';

/** Runs whose results were accepted, by when their handlers began and ended: never more at once than their key's limit. */
export function checkLimits({ events, effects }: History): Violation[] {
  const groups = new Map<string, { limit: number; runs: Set<string> }>();
  for (const [first, ...records] of jobsOf(events).values()) {
    const { concurrencyKey, concurrencyLimit } = first?.data ?? {};
    if (concurrencyKey === undefined || concurrencyLimit === undefined) continue;
    const group = groups.get(concurrencyKey) ?? { limit: concurrencyLimit, runs: new Set() };
    groups.set(concurrencyKey, group);
    for (const { data } of records) if (data.result?.run) group.runs.add(data.result.run);
  }
  return [...groups].flatMap(([key, { limit, runs }]) => {
    const going = new Set<string>();
    const found: Violation[] = [];
    for (const { what, run } of effects) {
      if (!runs.has(run)) continue;
      if (what !== 'begin') going.delete(run);
      else if (going.add(run).size > limit)
        found.push({ count: 'overLimit', what: `${key}: ${going.size} at once, ${[...going].join(', ')}` });
    }
    return found;
  });
}
