import { checkLanes } from './check/lanes.ts';
import { checkLimits } from './check/limits.ts';
import { checkPromises } from './check/promises.ts';
import { checkLedger, checkLog, checkReadModels } from './check/records.ts';
import { checkRuns } from './check/runs.ts';
import type { History, Violation } from './history.ts';

/** Everything that is wrong with a history. Pure: the same history gives the same answer. */
export function check(history: History): Violation[] {
  return [
    ...checkPromises(history),
    ...checkRuns(history),
    ...checkLanes(history),
    ...checkLimits(history),
    ...checkLedger(history),
    ...checkLog(history),
    ...checkReadModels(history),
    ...history.leftovers.map(({ key, entries }) => ({
      count: 'leftovers' as const,
      what: `${key}: ${entries}`,
    })),
    ...history.oddities.map((what) => ({ count: 'oddities' as const, what })),
    ...history.crashes.map((what) => ({ count: 'crashes' as const, what })),
  ];
}
