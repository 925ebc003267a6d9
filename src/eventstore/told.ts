/** A position of the log that was acknowledged to somebody, or read by somebody. */
export type ToldPosition = { readonly partition: number; readonly epoch: number; readonly seq: number };

/**
 * How far this process knows the log to go, as it was told by Redis itself: by the replies to its commits, and by what
 * it read. A Redis that comes back with less has lost events, also where the ledger did not have them yet.
 */
export type Told = {
  note(partition: number, epoch: number, seq: number): void;
  /** The highest of each partition and epoch. */
  all(): readonly ToldPosition[];
  /** Once the log was found to hold all of it: forgets epochs that ended. */
  settle(epochs: readonly number[]): void;
};

export function createTold(partitions: number): Told {
  const highest = Array.from({ length: partitions }, () => new Map<number, number>());
  return {
    note(partition, epoch, seq) {
      const known = highest[partition];
      if (known && (known.get(epoch) ?? 0) < seq) known.set(epoch, seq);
    },
    all: () =>
      highest.flatMap((known, partition) => Array.from(known, ([epoch, seq]) => ({ partition, epoch, seq }))),
    settle(epochs) {
      for (const [partition, known] of highest.entries()) {
        for (const epoch of known.keys()) if (epoch < (epochs[partition] ?? 0)) known.delete(epoch);
      }
    },
  };
}
