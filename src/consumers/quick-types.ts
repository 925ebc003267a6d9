import { type Alarm, createAlarm } from './alarm.ts';

const SOON_MS = 10;
/** So many runs must have been over soon; each that was not takes away what several have earned. */
const PROVEN_BY = 10;
const MOST_EARNED = 50;
const COST_OF_LONG = 5;

/**
 * Which types of jobs are begun before their start is recorded: those whose runs in this process are over
 * soon. Of others, what hangs or dies is known to have begun, and somebody may want to end what runs for long.
 */
export type QuickTypes = {
  /** A run that is over within this time has its start and its end recorded in one commit. */
  readonly soonMs: number;
  has(type: string): boolean;
  /** A run was over soon, or was not. */
  note(type: string, soon: boolean): void;
  /** Of a run that is not over within that time. */
  readonly whenLate: Alarm;
};

export function createQuickTypes(soonMs = SOON_MS): QuickTypes {
  const earned = new Map<string, number>();
  return {
    soonMs,
    whenLate: createAlarm(soonMs),
    has: (type) => (earned.get(type) ?? 0) >= PROVEN_BY,
    note(type, soon) {
      const now = (earned.get(type) ?? 0) + (soon ? 1 : -COST_OF_LONG);
      earned.set(type, Math.min(Math.max(now, 0), MOST_EARNED));
    },
  };
}
