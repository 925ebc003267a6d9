import { setTimeout as sleep } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import { ledgerHeads } from '../eventstore/checkpoints.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';

export const LEDGER_POLL_MS = 25;

/** Waits until the ledger holds every event up to `limits`, the highest seq of each partition. Throws the signal's reason. */
export async function ledgerHolds(
  db: Kysely<LedgerTables>,
  limits: readonly number[],
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const heads = await ledgerHeads(db);
    if (limits.every((limit, partition) => (heads.get(partition) ?? 0) >= limit)) return;
    await sleep(LEDGER_POLL_MS, undefined, { signal });
  }
}

/** The same, for so long. Throws `StoreUnavailableError` then. */
export async function ledgerHoldsWithin(
  db: Kysely<LedgerTables>,
  limits: readonly number[],
  ms: number,
): Promise<void> {
  const late = AbortSignal.timeout(ms);
  await ledgerHolds(db, limits, late).catch((error: unknown) => {
    if (!late.aborted) throw error;
    throw new StoreUnavailableError('the ledger does not hold yet what the log does; try again');
  });
}
