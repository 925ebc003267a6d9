import type { RawEvent } from '../../domain/event.ts';

/** What a follower may have before it that it has not fetched yet; who is further behind reads on from its place. */
const MOST_EVENTS = 5_000;
const MOST_CHARACTERS = 5_000_000;

/** What the tail has brought of all partitions and the follower has not fetched yet. Bounded. */
export function openInbox() {
  let events: RawEvent[] = [];
  let characters = 0;
  const stale = new Set<number>();
  let wake: (() => void) | undefined;

  return {
    event(event: RawEvent): void {
      // It is read again anyway, and what came before is among it.
      if (stale.has(event.partition)) return;
      events.push(event);
      characters += event.data.length + event.meta.length;
      if (events.length > MOST_EVENTS || characters > MOST_CHARACTERS) {
        for (const { partition } of events) stale.add(partition);
        events = [];
        characters = 0;
      }
      wake?.();
    },
    /** Events of the partition may have been passed over. */
    reread(partition: number): void {
      stale.add(partition);
      wake?.();
    },
    /** The partitions to be read again, from now on no more. */
    takeStale(): readonly number[] {
      const taken = [...stale];
      stale.clear();
      return taken;
    },
    take(): readonly RawEvent[] {
      const taken = events;
      events = [];
      characters = 0;
      return taken;
    },
    /** Until something comes in, so many milliseconds at most, or until somebody says to end. */
    async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
      if (events.length > 0 || stale.size > 0 || signal.aborted) return;
      await new Promise<void>((resolve) => {
        const end = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', end);
          wake = undefined;
          resolve();
        };
        const timer = setTimeout(end, Math.max(0, timeoutMs));
        wake = end;
        signal.addEventListener('abort', end, { once: true });
      });
    },
  };
}
