import type { Connection } from './connections.ts';

/** How full Redis is; read in the background. */
export type MemoryGuard = {
  /** Used memory by the limit, 0 … 1 and beyond; 0 while unknown. */
  usedShare(): number;
  /** Commands are refused from `COMMAND_LIMIT` on; starts of jobs and promotions from `START_LIMIT` on. */
  refuses(what: 'command' | 'start'): boolean;
  /** Reads it now. */
  refresh(): Promise<void>;
  close(): void;
};

const COMMAND_LIMIT = 0.75;
const START_LIMIT = 0.85;

/**
 * Watches Redis' memory, at most once a second, so that commands stop before Redis is full and what frees memory
 * (completions, acks, trims) can always go on.
 * @param limitBytes the limit where Redis has no `maxmemory`; default: half of the machine's memory as Redis sees it
 */
export function createMemoryGuard(
  connection: Connection,
  { limitBytes, intervalMs = 1_000 }: { limitBytes?: number | undefined; intervalMs?: number } = {},
): MemoryGuard {
  let share = 0;
  let reading: Promise<void> | undefined;
  const refresh = () => {
    reading ??= connection.redis
      .info('memory')
      .then((info) => {
        const limit = number(info, 'maxmemory') || (limitBytes ?? number(info, 'total_system_memory') / 2);
        share = limit > 0 ? number(info, 'used_memory') / limit : 0;
      })
      .finally(() => {
        reading = undefined;
      });
    return reading;
  };
  const background = () => {
    // While Redis is away the last answer stands; no command gets as far then.
    if (connection.runId() !== undefined) refresh().catch(() => {});
  };
  connection.onReady(background);
  const timer = setInterval(background, intervalMs);
  timer.unref();
  return {
    usedShare: () => share,
    refuses: (what) => share >= (what === 'command' ? COMMAND_LIMIT : START_LIMIT),
    refresh,
    close: () => clearInterval(timer),
  };
}

function number(info: string, field: string): number {
  return Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
}
