import type { Kysely } from 'kysely';
import { pausedGroups } from '../eventstore/pauses.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { untilAborted } from './backoff.ts';
import type { Hints } from './hints.ts';

/** A hint may be lost, so the table is looked at this often besides: a pause holds within about a second. */
const LOOK_EVERY_MS = 1_000;

/** Which ordered groups are paused, as far as this process knows. */
export type PausedGroups = {
  /** True, too, while nothing is known yet: the group may have been paused before this process started. */
  has(group: string): boolean;
  /** Resolves when something was said about any group: one goes on, or its cursor was moved. Or with the signal. */
  untilTold(signal: AbortSignal): Promise<void>;
  close(): void;
};

/** Goes by what it found last while Postgres is away: nobody can pause or resume anything then. */
export function watchPausedGroups(deps: {
  readonly db: Kysely<LedgerTables>;
  readonly hints: Hints;
  /** Of this process; each has its metric. */
  readonly groups: readonly string[];
  readonly metrics: Pick<Metrics, 'groupPaused'>;
  readonly logger: Logger;
}): PausedGroups {
  const { hints, metrics, logger } = deps;
  let known: ReadonlySet<string> | undefined;
  let told = Promise.withResolvers<void>();
  let looking = false;
  let again = false;

  function wake(): void {
    told.resolve();
    told = Promise.withResolvers();
  }

  async function look(): Promise<void> {
    if (looking) {
      // What it is about to find may be older than what the hint was about.
      again = true;
      return;
    }
    looking = true;
    do {
      again = false;
      await pausedGroups(deps.db).then(
        (found) => learn(new Set(found.keys())),
        (err: unknown) =>
          logger.debug({ err }, 'it is not known which groups are paused: they stay as they were'),
      );
    } while (again);
    looking = false;
  }

  function learn(found: ReadonlySet<string>): void {
    const before = known;
    known = found;
    for (const group of deps.groups) {
      metrics.groupPaused.set({ group }, found.has(group) ? 1 : 0);
      if (before && before.has(group) !== found.has(group)) {
        logger.info({ group, paused: found.has(group) }, 'group');
      }
    }
    if (!before || [...before].some((group) => !found.has(group))) wake();
  }

  const unhint = hints.on('groups', () => void look().then(wake));
  const timer = setInterval(() => void look(), LOOK_EVERY_MS).unref();
  void look();
  return {
    has: (group) => known?.has(group) ?? true,
    untilTold: async (signal) => {
      await untilAborted(told.promise, signal);
    },
    close() {
      unhint();
      clearInterval(timer);
      for (const group of deps.groups) metrics.groupPaused.remove({ group });
    },
  };
}
