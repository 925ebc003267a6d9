/**
 * Calls `late` some time after `since` (by `performance.now()`), unless what it gives is called before.
 * What is called back must not throw.
 */
export type Alarm = (late: () => void, since: number) => () => void;

/**
 * One time for all, in the order in which they ask, so one timer does: of tens of thousands a second nearly all are in
 * time.
 *
 * @param ms how long each may take; it may be told later by as much again
 */
export function createAlarm(ms: number): Alarm {
  type Waiting = { readonly due: number; late: (() => void) | undefined };
  let waiting: Waiting[] = [];
  let armed = false;

  function arm(inMs: number): void {
    armed = true;
    setTimeout(ring, Math.max(1, inMs));
  }

  function ring(): void {
    armed = false;
    const now = performance.now();
    const first = waiting.findIndex(({ due, late }) => late !== undefined && due > now);
    const over = first < 0 ? waiting : waiting.slice(0, first);
    waiting = first < 0 ? [] : waiting.slice(first);
    for (const { late } of over) late?.();
    const [next] = waiting;
    if (next && !armed) arm(next.due - now);
  }

  return (late, since) => {
    const one: Waiting = { due: since + ms, late };
    waiting.push(one);
    if (!armed) arm(ms);
    return () => {
      one.late = undefined;
    };
  };
}
