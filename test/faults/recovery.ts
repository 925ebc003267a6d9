import { type JobRecord, jobsOf } from './check/jobs.ts';
import type { History } from './history.ts';
import type { Inflicted } from './inflict.ts';

export type Recovery = { readonly kind: string; readonly ms: number };

/**
 * How long after each fault's first moment every partition had accepted a result again, of a run that began after
 * that moment: a partition that the fault did not touch has one at once, so what counts is the last of them. Faults
 * overlap, and each is given the whole time. A fault after which some partition had no further result is left out:
 * the load had ended.
 */
export function recoveryTimes(
  history: Pick<History, 'events' | 'effects'>,
  faults: readonly Inflicted[],
): Recovery[] {
  const accepted = new Map<string, number>();
  for (const records of jobsOf(history.events).values()) {
    for (const { type, data, partition } of records satisfies readonly JobRecord[]) {
      if (type === 'JobCompleted' && data.result?.run) accepted.set(data.result.run, partition);
    }
  }
  const begun = new Map<string, number>();
  const runs: { partition: number; begin: number; end: number }[] = [];
  for (const { what, run, at } of history.effects) {
    const partition = accepted.get(run);
    if (partition === undefined) continue;
    if (what === 'begin') begun.set(run, at);
    else if (what === 'end') runs.push({ partition, begin: begun.get(run) ?? at, end: at });
  }
  const partitions = [...Map.groupBy(runs, ({ partition }) => partition).values()];
  return faults.flatMap(({ fault, at }) => {
    const firsts = partitions.map(
      (its) => its.find(({ begin }) => begin >= at)?.end ?? Number.POSITIVE_INFINITY,
    );
    const ms = Math.max(...firsts) - at;
    return Number.isFinite(ms) ? [{ kind: fault.kind, ms }] : [];
  });
}

/** By nearest rank; undefined of nothing. */
export function percentile(values: readonly number[], share: number): number | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
