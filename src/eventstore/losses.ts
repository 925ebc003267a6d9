import { type Kysely, sql } from 'kysely';
import type { Meta } from './meta.ts';
import type { LedgerTables } from './tables.ts';
import type { ToldPosition } from './told.ts';

type Epoch = { readonly first_seq: number; readonly last_seq: number | null };

/** Events that Redis had, and has no more: those of an epoch above `lastSeq`, up to `seq`. */
export type Loss = ToldPosition & { readonly lastSeq: number };

/**
 * What Redis lost of that which processes were told by it. The ledger can't tell: it never had these events. Whoever
 * finds such a loss writes it down, so that it holds for all, also for those that were told less or start afterwards.
 * A loss ends when Redis is given back what it had, or when somebody accepts it.
 *
 * Called by one process at a time. The metas must be of the server that is to be trusted.
 * @param told what this process knows
 */
export async function findLosses(
  db: Kysely<LedgerTables>,
  metas: readonly (Meta | undefined)[],
  told: readonly ToldPosition[],
): Promise<readonly Loss[]> {
  const noted = await db.selectFrom('losses').selectAll().execute();
  const rows = await db
    .selectFrom('epochs')
    .select(['partition', 'epoch', 'first_seq', 'last_seq'])
    .execute();
  const epochs = new Map(rows.map((row) => [keyOf(row), row]));
  const lost = (position: ToldPosition) =>
    lossOf(position, metas[position.partition], epochs.get(keyOf(position)));
  const accepted = new Set(noted.filter(({ accepted_at }) => accepted_at !== null).map(keyOf));
  const open = (position: ToldPosition) => !accepted.has(keyOf(position));

  const found = told.flatMap((position) => (open(position) ? (lost(position) ?? []) : []));
  if (found.length > 0) await note(db, found);
  const known = noted
    .filter((row) => open(row))
    .map(({ partition, epoch, seq }) => ({ partition, epoch, seq }));
  const still = known.flatMap((position) => lost(position) ?? []);
  for (const { partition, epoch } of known.filter((position) => lost(position) === undefined)) {
    // Redis was given back what it had.
    await db.deleteFrom('losses').where('partition', '=', partition).where('epoch', '=', epoch).execute();
  }
  return highest([...found, ...still]);
}

/** Whether there is a loss that nobody accepted. */
export async function isSomethingLost(db: Kysely<LedgerTables>): Promise<boolean> {
  return (await openLosses(db)).length > 0;
}

/** A loss that nobody accepted, and when it was noticed. */
export type OpenLoss = Loss & { readonly noticedAt: Date };

export async function openLosses(db: Kysely<LedgerTables>): Promise<readonly OpenLoss[]> {
  const rows = await db
    .selectFrom('losses')
    .select(['partition', 'epoch', 'seq', 'last_seq', 'noticed_at'])
    .where('accepted_at', 'is', null)
    .orderBy('partition')
    .orderBy('epoch')
    .execute();
  return rows.map(({ last_seq, noticed_at, ...loss }) => ({
    ...loss,
    lastSeq: last_seq,
    noticedAt: noticed_at,
  }));
}

/**
 * These losses are accepted from now on: commits go on without what was lost, in a new epoch, unless more is missed. One that
 * has grown since it was shown is not accepted: nobody gave that up.
 * @param who, and why: kept with the loss
 */
export async function acceptLosses(
  db: Kysely<LedgerTables>,
  losses: readonly ToldPosition[],
  { by, reason }: { readonly by: string; readonly reason: string },
): Promise<void> {
  for (const { partition, epoch, seq } of losses) {
    await db
      .updateTable('losses')
      .set({ accepted_at: sql`now()`, accepted_by: by, accepted_for: reason })
      .where('partition', '=', partition)
      .where('epoch', '=', epoch)
      .where('seq', '<=', seq)
      .where('accepted_at', 'is', null)
      .execute();
  }
}

/** Why commits are stopped, for operators. */
export function lossMessage(losses: readonly Loss[]): string {
  const [first] = losses;
  if (!first) throw new Error('nothing was lost');
  const { partition, lastSeq, seq } = first;
  const events = seq - lastSeq === 1 ? `Event ${seq}` : `Events ${lastSeq + 1} to ${seq}`;
  const others = losses.length > 1 ? `, and events of ${losses.length - 1} other partitions,` : '';
  return `${events} of partition ${partition}${others} were acknowledged or read, and Redis came back without them: it lost its last writes before the ledger had them. Commits stay stopped: stop Redis, give it back its newest append-only file, and start it again; or go on without these events by \`millrace recover\`.`;
}

function lossOf(
  { partition, epoch, seq }: ToldPosition,
  meta: Meta | undefined,
  known: Epoch | undefined,
): Loss | undefined {
  // An epoch that Postgres knows nothing of: it is Postgres that went back.
  if (!meta || !known) return undefined;
  const lastSeq = lastSeqOf(known, epoch, meta);
  return lastSeq >= seq ? undefined : { partition, epoch, seq, lastSeq };
}

/** Up to where the log holds an epoch: one that is newer than the log it has nothing of. */
function lastSeqOf({ first_seq, last_seq }: Epoch, epoch: number, meta: Meta): number {
  if (epoch === meta.epoch) return meta.seq;
  if (epoch > meta.epoch) return first_seq - 1;
  return last_seq ?? meta.seq;
}

const keyOf = ({ partition, epoch }: { partition: number; epoch: number }) => `${partition} ${epoch}`;

async function note(db: Kysely<LedgerTables>, losses: readonly Loss[]): Promise<void> {
  await db
    .insertInto('losses')
    .values(losses.map(({ lastSeq, ...loss }) => ({ ...loss, last_seq: lastSeq })))
    .onConflict((conflict) =>
      conflict.columns(['partition', 'epoch']).doUpdateSet({ seq: sql`greatest(losses.seq, excluded.seq)` }),
    )
    .execute();
}

function highest(losses: readonly Loss[]): readonly Loss[] {
  const each = new Map<string, Loss>();
  for (const loss of losses) {
    if ((each.get(keyOf(loss))?.seq ?? 0) < loss.seq) each.set(keyOf(loss), loss);
  }
  return [...each.values()].sort((a, b) => a.partition - b.partition || a.epoch - b.epoch);
}
