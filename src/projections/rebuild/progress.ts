import type { RebuildPhase } from '../generations.ts';
import type { Rebuild } from './rebuilds.ts';

/** How far a rebuild is. Positions are numbers of events over all partitions; times are RFC 3339. */
export type RebuildView = {
  readonly projection: string;
  readonly version: number;
  readonly generation: number;
  readonly phase: RebuildPhase;
  readonly position: number;
  /** The log's end, which moves on. */
  readonly target: number;
  /** Events a second, lately. */
  readonly rate?: number;
  /** Until it has caught up, as it goes now; absent while it comes no nearer, or there is nothing to tell by. */
  readonly secondsLeft?: number;
  readonly beganAt: string;
  readonly endedAt?: string;
  /** Why it failed. */
  readonly problem?: string;
  readonly by: string;
  readonly reason: string;
};

export function viewRebuild(rebuild: Rebuild): RebuildView {
  const { position, target, rate, closing, ended_at, problem } = rebuild;
  const over = ended_at !== null;
  const left =
    !over && closing !== null && closing > 0 ? Math.max(0, target - position) / closing : undefined;
  return {
    projection: rebuild.projection,
    version: rebuild.version,
    generation: rebuild.generation,
    phase: rebuild.phase,
    position,
    target,
    ...(over || rate === null ? {} : { rate: Math.round(rate) }),
    ...(left === undefined || rebuild.phase === 'indexing' ? {} : { secondsLeft: Math.ceil(left) }),
    beganAt: rebuild.begun_at.toISOString(),
    ...(over ? { endedAt: ended_at.toISOString() } : {}),
    ...(problem === null ? {} : { problem }),
    by: rebuild.asked_by,
    reason: rebuild.asked_for,
  };
}
