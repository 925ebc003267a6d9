import { type Kysely, sql, type Transaction } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { EventCodec } from '../domain/events.ts';
import { moveCheckpoint, openCheckpoint } from '../eventstore/checkpoints.ts';
import type { Checkpoint, OrderedGroup } from '../eventstore/types.ts';
import { loadRows, upsertRows } from './bulk.ts';
import type { Database } from './database.ts';
import { type Concern, type Folded, foldBatch, messageOf, readBatch } from './fold.ts';
import type { Observe } from './observe.ts';
import { parkEvents, parkedKeys } from './parked.ts';
import { type AnyProjection, type AnyRow, groupOf } from './projection.ts';

export type ProjectionGroupOptions<R extends AnyRow> = {
  readonly db: Kysely<Database>;
  readonly projection: AnyProjection<R>;
  readonly codec: EventCodec;
  /** `observeProjection`, unless whoever runs the group measures it. Must not throw: the batch stands. */
  readonly observe?: Observe;
  /** Called once a batch is visible, to wake those who wait for it. Must not throw either. */
  readonly onApplied?: (partition: number, checkpoint: Checkpoint) => void;
};

/**
 * Keeps a read model up to date, a batch per transaction: the checkpoint moves first, which locks out every
 * other owner; then parked keys and rows are loaded, the events folded, and what changed is written.
 *
 * `apply` throws `FencedError` (another owner, or not where `from` says), `UnknownEventError` (newer code must
 * take the partition), or what Postgres threw (try again); nothing was applied then.
 */
export function createProjectionGroup<R extends AnyRow>(options: ProjectionGroupOptions<R>): OrderedGroup {
  const { db, projection, codec } = options;
  const group = groupOf(projection);
  return {
    name: group,
    open: (partition, token) => openCheckpoint(db, group, partition, token),
    async apply(partition, from, events, token) {
      const startTime = Date.now();
      const to = endOf(partition, from, events);
      const batch = readBatch(projection, codec, events);
      const transact = (write: typeof writeTogether) =>
        db.transaction().execute(async (trx) => {
          await moveCheckpoint(trx, { group, partition, from, to, token });
          const folded = await write(trx, projection, batch);
          await parkEvents(trx, group, folded.parked);
          return folded.applied;
        });
      const applied = await transact(writeTogether).catch((error: unknown) => {
        if (!isUnwritable(error)) throw error;
        return transact(writeSingly);
      });
      options.observe?.(applied, startTime);
      options.onApplied?.(partition, to);
      return to;
    },
  };
}

/** Where a batch ends. Throws where it is not what follows `from`: a gap would be lost without a trace. */
function endOf(partition: number, from: Checkpoint, events: readonly RawEvent[]): Checkpoint {
  let to = from;
  for (const event of events) {
    if (event.partition !== partition || event.seq !== to.seq + 1) {
      throw new Error(
        `partition ${partition}: event ${event.partition}/${event.seq} does not follow seq ${to.seq}`,
      );
    }
    to = { epoch: event.epoch, seq: event.seq, eventId: event.id };
  }
  return to;
}

async function writeTogether<R extends AnyRow>(
  trx: Transaction<Database>,
  projection: AnyProjection<R>,
  batch: readonly Concern[],
): Promise<Folded<R>> {
  const { rows, blocked } = await before(trx, projection, batch);
  const folded = foldBatch(projection, batch, rows, blocked);
  await upsertRows(trx, projection, folded.rows.values());
  return folded;
}

/**
 * Event by event, for a batch in which one row can't be written: the event that made it so is found and
 * parked, as one that can't be reduced. Slow, and rare.
 */
async function writeSingly<R extends AnyRow>(
  trx: Transaction<Database>,
  projection: AnyProjection<R>,
  batch: readonly Concern[],
): Promise<Folded<R>> {
  const { rows, blocked } = await before(trx, projection, batch);
  const all: Folded<R> = { rows, parked: [], applied: [] };
  for (const concern of batch) {
    const folded = foldBatch(projection, [concern], rows, blocked);
    const error = await written(trx, () => upsertRows(trx, projection, folded.rows.values()));
    if (error === undefined) {
      for (const [key, row] of folded.rows) rows.set(key, row);
      all.applied.push(...folded.applied);
      all.parked.push(...folded.parked);
    } else {
      blocked.add(concern.key);
      all.parked.push({ event: concern.raw, rowKey: concern.key, error });
    }
  }
  return all;
}

async function before<R extends AnyRow>(
  trx: Transaction<Database>,
  projection: AnyProjection<R>,
  batch: readonly Concern[],
) {
  const keys = [...new Set(batch.map((concern) => concern.key))];
  if (keys.length === 0) return { rows: new Map<string, R>(), blocked: new Set<string>() };
  const rows = await loadRows(trx, projection, keys);
  const blocked = await parkedKeys(trx, groupOf(projection), keys);
  return { rows, blocked };
}

/** Undefined: it is written. Else why it can't be; the transaction stands as if it had not been tried. */
async function written(trx: Transaction<Database>, write: () => Promise<void>): Promise<string | undefined> {
  await sql`SAVEPOINT event`.execute(trx);
  try {
    await write();
    await sql`RELEASE SAVEPOINT event`.execute(trx);
    return undefined;
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    await sql`ROLLBACK TO SAVEPOINT event`.execute(trx);
    return messageOf(error);
  }
}

/** SQLSTATE classes 22 (a value that the type can't hold) and 23 (a constraint): no retry would help. */
function isUnwritable(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^2[23]...$/.test(error.code)
  );
}
