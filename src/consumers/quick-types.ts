const SOON_MS = 10;
/** So many runs in a row must have been over soon. */
const PROVEN_BY = 10;

/**
 * Which types of jobs are begun before their start is recorded: those whose last runs in this process were over
 * soon. Of others, what hangs or dies is known to have begun, and somebody may want to end what runs for long.
 */
export type QuickTypes = {
  /** A run that is over within this time has its start and its end recorded in one commit. */
  readonly soonMs: number;
  has(type: string): boolean;
  /** A handler took so long. */
  note(type: string, ms: number): void;
};

export function createQuickTypes(soonMs = SOON_MS): QuickTypes {
  const inRow = new Map<string, number>();
  return {
    soonMs,
    has: (type) => (inRow.get(type) ?? 0) >= PROVEN_BY,
    note(type, ms) {
      if (ms > soonMs) inRow.delete(type);
      else inRow.set(type, (inRow.get(type) ?? 0) + 1);
    },
  };
}
