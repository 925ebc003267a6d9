import type { Kysely } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { EventCodec, RecordedEvent } from '../domain/events.ts';
import { type CheckpointMove, openCheckpoint } from '../eventstore/checkpoints.ts';
import type { MoveAlone } from '../eventstore/gathered-moves.ts';
import type { Checkpoint, OrderedGroup } from '../eventstore/types.ts';
import { type Loaded, loadRows, moveAndUpsert } from './bulk.ts';
import type { Database } from './database.ts';
import { type Concern, foldBatch, mayConcern, readBatch } from './fold.ts';
import { liveReadModel, type ReadModel } from './generations.ts';
import { beginsRow, type KeptRows, keptRows } from './kept-rows.ts';
import type { Observe } from './observe.ts';
import { type ParkedEvent, parkEvents } from './parked.ts';
import { type AnyProjection, type AnyRow, groupOf } from './projection.ts';
import { isUnwritable, writeSingly } from './write-singly.ts';

export type ProjectionGroupOptions<R extends AnyRow> = {
  readonly db: Kysely<Database>;
  readonly projection: AnyProjection<R>;
  readonly codec: EventCodec;
  /** `observeProjection`, unless whoever runs the group measures it. Must not throw: the batch stands. */
  readonly observe?: Observe;
  /** Moves the checkpoint past events that are none of its business. Default: each time at once, by itself. */
  readonly pass?: MoveAlone;
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
      const { pass } = options;
      const { applied, parked, to } = await applyBatch(db, model, codec, batch, { kept, pass });
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

const NOTHING = { rows: new Map<string, never>(), blocked: new Set<string>() } as const;

type Applied = { readonly applied: readonly RecordedEvent[]; readonly parked: readonly ParkedEvent[] };

/**
 * Applies a batch to a generation: its rows, what is parked, and the checkpoint, all or nothing.
 * @param options.parks default true; else what can't be applied is a `PoisonedEventError`
 * @param options.kept the partition's rows as earlier batches left them; default: all are loaded
 * @param options.pass moves the checkpoint where no event concerns a row; default: as where some do
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
  {
    parks = true,
    kept,
    pass,
  }: {
    readonly parks?: boolean;
    readonly kept?: KeptRows<R> | undefined;
    readonly pass?: MoveAlone | undefined;
  } = {},
): Promise<Applied & { readonly to: Checkpoint }> {
  const { partition, from, events, token } = given;
  const move = { group: model.group, partition, from, to: endOf(partition, from, events), token };
  const batch = readBatch(model.projection, codec, events);
  if (batch.length === 0 && pass) {
    await pass(move);
    kept?.moved(move, NOTHING, NOTHING.rows, []);
    return { applied: [], parked: [], to: move.to };
  }
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
  let { seq } = from;
  for (const event of events) {
    if (event.partition !== partition || event.seq !== seq + 1) {
      throw new Error(
        `partition ${partition}: event ${event.partition}/${event.seq} does not follow seq ${seq}`,
      );
    }
    seq++;
  }
  const last = events.at(-1);
  return last ? { epoch: last.epoch, seq, eventId: last.id } : from;
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
