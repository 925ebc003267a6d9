/** What the thread that renews a lease says of it to the one that holds it: read at any time, by no message. */
export type LeaseCell = BigInt64Array;

/** Until when, ms by `monotonicMs`; and whether the last attempt to renew it failed. */
const AT = { validUntil: 0, failing: 1 } as const;
const SIZE = 2;
const LOST = -1n;

/** Milliseconds by a clock that no one sets, the same in every thread of the process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

export function createCell(validUntil: number): LeaseCell {
  const cell = new BigInt64Array(new SharedArrayBuffer(SIZE * BigInt64Array.BYTES_PER_ELEMENT));
  setRenewed(cell, validUntil);
  return cell;
}

/** -Infinity once the lease is lost. */
export function validUntil(cell: LeaseCell): number {
  const value = Atomics.load(cell, AT.validUntil);
  return value === LOST ? Number.NEGATIVE_INFINITY : Number(value);
}

export function isFailing(cell: LeaseCell): boolean {
  return Atomics.load(cell, AT.failing) === 1n;
}

export function setRenewed(cell: LeaseCell, until: number): void {
  Atomics.store(cell, AT.validUntil, BigInt(until));
  Atomics.store(cell, AT.failing, 0n);
}

export function setFailing(cell: LeaseCell): void {
  Atomics.store(cell, AT.failing, 1n);
}

export function setLost(cell: LeaseCell): void {
  Atomics.store(cell, AT.validUntil, LOST);
}
