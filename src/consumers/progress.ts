const EVERY_MS = 1_000;

export type Progress = {
  report(percent: number, detail?: unknown): void;
  /** Ends reporting: what is under way is waited for, what still waits is dropped. */
  close(): Promise<void>;
};

/**
 * Records progress at most once a second. Of reports in between the latest is kept and recorded when the second
 * is over.
 * @param record never rejects
 */
export function createProgress(record: (percent: number, detail: unknown) => Promise<void>): Progress {
  let latest: { percent: number; detail: unknown } | undefined;
  let underWay: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  function flush(): void {
    timer = undefined;
    const next = latest;
    if (!next || underWay) return;
    latest = undefined;
    timer = setTimeout(flush, EVERY_MS);
    underWay = record(next.percent, next.detail).finally(() => {
      underWay = undefined;
      if (latest && !timer && !closed) flush();
    });
  }

  return {
    report(percent, detail) {
      if (closed || !Number.isFinite(percent)) return;
      latest = { percent, detail };
      if (!timer) flush();
    },
    async close() {
      closed = true;
      latest = undefined;
      clearTimeout(timer);
      await underWay;
    },
  };
}
