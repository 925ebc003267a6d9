import { type Kysely, sql, type Transaction } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { EventCodec, RecordedEvent } from '../domain/events.ts';
import { type CheckpointMove, moveCheckpoint, openCheckpoint } from '../eventstore/checkpoints.ts';
import type { Checkpoint, OrderedGroup } from '../eventstore/types.ts';
import { type Loaded, loadRows, moveAndUpsert, upsertRows } from './bulk.ts';
import type { Database } from './database.ts';
import { type Concern, foldBatch, mayConcern, messageOf, readBatch } from './fold.ts';
import { liveReadModel, type ReadModel } from './generations.ts';
import { beginsRow, type KeptRows, keptRows } from './kept-rows.ts';
import type { Observe } from './observe.ts';
import { type ParkedEvent, parkEvents } from './parked.ts';
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
 * Keeps a read model up to date, batch by batch: load the rows of a batch, fold, then write what changed and
 * move the checkpoint, both or neither.
 *
 * The rows are loaded before the checkpoint is locked, or are those that the last batch left, and are right all the same: a
 * partition's rows change only together with its checkpoint, and that is written only if it still is where the batch begins.
 *
 * `apply` throws `FencedError` (another owner, or not where `from` says), `UnknownEventError` (newer code must
 * take the partition), or what Postgres threw (try again); nothing was applied then.
 */
export function createProjectionGroup<R extends AnyRow>(options: ProjectionGroupOptions<R>): OrderedGroup {
  const { db, projection, codec } = options;
  const group = groupOf(projection);
  /** The generation of each partition when it was taken over; who makes another one live fences its owners. */
  const models = new Map<number, { readonly model: ReadModel<R>; readonly kept: KeptRows<R> }>();
  async function takeOver(partition: number) {
    const taken = { model: await liveReadModel(db, projection), kept: keptRows<R>() };
    models.set(partition, taken);
    return taken;
  }
  return {
    name: group,
    concerns: (raw) => !codec.knows(raw.type) || mayConcern(projection, raw),
    async open(partition, token) {
      const checkpoint = await openCheckpoint(db, group, partition, token);
      await takeOver(partition);
      return checkpoint;
    },
    async apply(partition, from, events, token) {
      const startTime = Date.now();
      const { model, kept } = models.get(partition) ?? (await takeOver(partition));
      const batch = { partition, from, events, token };
      const { applied, parked, to } = await applyBatch(db, model, codec, batch, { kept });
      options.observe?.(applied, startTime, parked);
      options.onApplied?.(partition, to);
      return to;
    },
  };
}

/** An event that can't be applied, where nothing is to be parked. Nothing of its batch was applied. */
export class PoisonedEventError extends Error {
  override readonly name = 'PoisonedEventError';
  constructor({ event, rowKey, error }: ParkedEvent) {
    super(
      `${event.type} ${event.id} (partition ${event.partition}, seq ${event.seq}, row ${rowKey}): ${error}`,
    );
  }
}

type Applied = { readonly applied: readonly RecordedEvent[]; readonly parked: readonly ParkedEvent[] };

/**
 * Applies a batch to a generation: its rows, what is parked, and the checkpoint, all or nothing.
 * @param options.parks default true; else what can't be applied is a `PoisonedEventError`
 * @param options.kept the partition's rows as earlier batches left them; default: all are loaded
 * @returns the events that were applied, those that were parked, and where the checkpoint is now
 */
export async function applyBatch<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  codec: EventCodec,
  given: {
    readonly partition: number;
    readonly from: Checkpoint;
    readonly events: readonly RawEvent[];
    readonly token: number;
  },
  { parks = true, kept }: { readonly parks?: boolean; readonly kept?: KeptRows<R> } = {},
): Promise<Applied & { readonly to: Checkpoint }> {
  const { partition, from, events, token } = given;
  const move = { group: model.group, partition, from, to: endOf(partition, from, events), token };
  const batch = readBatch(model.projection, codec, events);
  const refuse = (parked: readonly ParkedEvent[]) => {
    const [first] = parked;
    if (first && !parks) throw new PoisonedEventError(first);
  };
  const loaded = await rowsOf(db, model, from, batch, kept);
  try {
    const { rows, ...done } = await writeTogether(db, model, move, batch, loaded, refuse);
    kept?.moved(move, loaded, rows, done.parked);
    return { ...done, to: move.to };
  } catch (error) {
    kept?.clear();
    if (!isUnwritable(error)) throw error;
    return { ...(await writeSingly(db, model, move, batch, loaded, refuse)), to: move.to };
  }
}

/** The rows of a batch: those that are at hand, and, loaded, those that may be there besides. */
async function rowsOf<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  from: Checkpoint,
  batch: readonly Concern[],
  kept: KeptRows<R> | undefined,
): Promise<Loaded<R>> {
  const atHand = kept?.at(from) ?? new Map<string, R>();
  const missing = new Set<string>();
  const rows = new Map<string, R>();
  const begun = new Set<string>();
  for (const { key, raw } of batch) {
    const row = atHand.get(key);
    if (row) rows.set(key, row);
    else if (kept && beginsRow(model.projection, key, raw)) begun.add(key);
    else if (!begun.has(key)) missing.add(key);
  }
  const loaded = await loadRows(db, model, [...missing]);
  for (const [key, row] of loaded.rows) rows.set(key, row);
  return { rows, blocked: loaded.blocked };
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
  db: Kysely<Database>,
  model: ReadModel<R>,
  move: CheckpointMove,
  batch: readonly Concern[],
  loaded: Loaded<R>,
  refuse: (parked: readonly ParkedEvent[]) => void,
): Promise<Applied & { readonly rows: ReadonlyMap<string, R> }> {
  const { rows, parked, applied } = foldBatch(model.projection, batch, loaded);
  refuse(parked);
  if (parked.length === 0) {
    await moveAndUpsert(db, model, move, rows);
  } else {
    await db.transaction().execute(async (trx) => {
      await moveAndUpsert(trx, model, move, rows);
      await parkEvents(trx, move.group, parked);
    });
  }
  return { applied, parked, rows };
}

/**
 * Event by event, for a batch in which one row can't be written: the event that made it so is found and
 * parked, as one that can't be reduced. Slow, and rare.
 */
async function writeSingly<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  move: CheckpointMove,
  batch: readonly Concern[],
  loaded: Loaded<R>,
  refuse: (parked: readonly ParkedEvent[]) => void,
): Promise<Applied> {
  const rows = new Map(loaded.rows);
  const blocked = new Set(loaded.blocked);
  const applied: RecordedEvent[] = [];
  const left: ParkedEvent[] = [];
  await db.transaction().execute(async (trx) => {
    await moveCheckpoint(trx, move);
    for (const concern of batch) {
      const folded = foldBatch(model.projection, [concern], { rows, blocked });
      const error = await written(trx, () => upsertRows(trx, model, folded.rows));
      const parked =
        error === undefined
          ? folded.parked
          : [{ event: concern.raw, rowKey: concern.key, because: 'row' as const, error }];
      refuse(parked);
      await parkEvents(trx, move.group, parked);
      for (const { rowKey } of parked) blocked.add(rowKey);
      left.push(...parked);
      if (error !== undefined) continue;
      for (const [key, row] of folded.rows) rows.set(key, row);
      applied.push(...folded.applied);
    }
  });
  return { applied, parked: left };
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
export function isUnwritable(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^2[23]...$/.test(error.code)
  );
}
