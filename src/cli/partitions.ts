import type { Position } from '../domain/position.ts';
import { UsageError } from './exit.ts';

/** Throws `UsageError` where a position is of a partition that the installation has not. */
export function checkPartitions(positions: readonly Pick<Position, 'partition'>[], partitions: number): void {
  const unknown = positions.find(({ partition }) => partition >= partitions);
  if (!unknown) return;
  throw new UsageError(
    `There is no partition ${unknown.partition}: there are ${partitions}, from 0 to ${partitions - 1}.`,
  );
}
