import { parseLogEntries } from '../eventstore/log.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { decidedAt } from './event-meta.ts';
import type { Standing } from './reader.ts';

const EVERY_MS = 2_000;

/**
 * Measures how far each group that this process runs is behind: by our own seqs (`XINFO GROUPS` is often wrong),
 * and by the age of the oldest event that it has not read.
 */
export function measureLag(deps: {
  readonly store: Pick<OpenEventStore, 'heads' | 'keys' | 'reader'>;
  readonly standings: ReadonlySet<Standing>;
  readonly metrics: Pick<Metrics, 'groupLagEvents' | 'groupLagSeconds'>;
  readonly logger: Logger;
  /** Told each time how far the furthest behind of these groups is; they run here. */
  readonly onLag?:
    | { readonly groups: ReadonlySet<string>; readonly tell: (seconds: number) => void }
    | undefined;
  /** Told each time how far all of them are. */
  readonly onStandings: (standings: readonly Standing[]) => Promise<void>;
}): { stop(): void } {
  const { store, standings, metrics } = deps;
  const shown = new Map<string, { group: string; partition: string }>();
  let busy = false;

  async function ageOfNext({ partition, checkpoint }: Standing): Promise<number> {
    const keys = store.keys[partition];
    if (!keys) return 0;
    const after = `(${checkpoint.epoch}-${checkpoint.seq}`;
    const entries = await store.reader.redis.xrange(keys.log, after, '+', 'COUNT', 1);
    const [next] = parseLogEntries(partition, entries);
    const at = decidedAt(next?.meta ?? '');
    return at === undefined ? 0 : Math.max(0, Date.now() - at) / 1000;
  }

  async function measure(): Promise<void> {
    const heads = await store.heads();
    const current = [...standings];
    const labelsNow = new Set<string>();
    let furthest = 0;
    for (const standing of current) {
      const labels = { group: standing.group, partition: String(standing.partition) };
      const behind = Math.max(0, (heads[standing.partition] ?? 0) - standing.checkpoint.seq);
      metrics.groupLagEvents.set(labels, behind);
      const seconds = behind > 0 ? await ageOfNext(standing) : 0;
      metrics.groupLagSeconds.set(labels, seconds);
      if (deps.onLag?.groups.has(standing.group) && !standing.paused) furthest = Math.max(furthest, seconds);
      labelsNow.add(`${labels.group} ${labels.partition}`);
      shown.set(`${labels.group} ${labels.partition}`, labels);
    }
    for (const [key, labels] of shown) if (!labelsNow.has(key)) forget(key, labels);
    deps.onLag?.tell(furthest);
    await deps.onStandings(current);
  }

  /** What another owns now is for that one to report. */
  function forget(key: string, labels: { group: string; partition: string }): void {
    metrics.groupLagEvents.remove(labels);
    metrics.groupLagSeconds.remove(labels);
    shown.delete(key);
  }

  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    measure()
      .catch((err: unknown) => deps.logger.debug({ err }, 'lag could not be measured'))
      .finally(() => {
        busy = false;
      });
  }, EVERY_MS);
  return {
    stop() {
      clearInterval(timer);
      for (const [key, labels] of shown) forget(key, labels);
    },
  };
}
