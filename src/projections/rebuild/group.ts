import { setTimeout as sleep } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import type { EventCodec } from '../../domain/events.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { readCheckpoint } from '../../eventstore/checkpoints.ts';
import { type Checkpoint, FencedError, type OrderedGroup } from '../../eventstore/types.ts';
import type { Database } from '../database.ts';
import type { ReadModel, RebuildPhase } from '../generations.ts';
import type { AnyProjection, AnyRow } from '../projection.ts';
import { applyBatch, PoisonedEventError } from '../runner.ts';
import { fillPartition } from './fill.ts';
import { giveUpRebuild, type Rebuild } from './rebuilds.ts';

const LOOK_MS = 100;

/**
 * The group of a rebuild: fills its partitions from the ledger, as far as that goes, waits for the indexes, then reads on
 * as any ordered reader, until it is live. What it can't apply ends the rebuild, unless that parks.
 *
 * @param deps.phase what the rebuild does now; undefined: it is over
 * @param deps.turn runs a few at a time: rows at hand take memory. Who waits gives the partition up with the signal
 */
export function createRebuildGroup<R extends AnyRow>(deps: {
  readonly db: Kysely<Database>;
  readonly projection: AnyProjection<R>;
  readonly codec: EventCodec;
  readonly rebuild: Rebuild;
  readonly archives?: Archives | undefined;
  readonly phase: () => RebuildPhase | undefined;
  /** Called when it turns out to be over before anybody has told. */
  readonly onOver?: () => void;
  readonly turn: <T>(run: () => Promise<T>, signal: AbortSignal) => Promise<T | undefined>;
  readonly pace: (ms: number) => Promise<void>;
}): OrderedGroup {
  const { db, projection, codec, rebuild, archives, phase, turn, pace } = deps;
  const { group_name: group, table_name: table, parks } = rebuild;
  const model: ReadModel<R> = { projection, group, table };

  async function orGiveUp<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof PoisonedEventError)) throw error;
      await giveUpRebuild(db, rebuild.id, 'failed', error.message);
      throw new FencedError(`the rebuild is over: ${error.message}`);
    }
  }

  return {
    name: group,
    async open(partition, token) {
      const opened = await openExisting(db, group, partition, token);
      if (opened) return opened;
      const there = await readCheckpoint(db, group, partition);
      if (!there) deps.onOver?.();
      throw new FencedError(`${group} of partition ${partition} ${there ? 'has a newer owner' : 'is over'}`);
    },
    async fill(partition, from, token, signal) {
      let at = from;
      await turn(async () => {
        if (phase() !== 'filling') return;
        const options = { archives, parks, pace, signal };
        at = await orGiveUp(() => fillPartition(db, model, codec, { partition, from, token }, options));
      }, signal);
      while (!signal.aborted && (phase() === 'filling' || phase() === 'indexing')) await sleep(LOOK_MS);
      return at;
    },
    async apply(partition, from, events, token) {
      const done = await orGiveUp(() =>
        applyBatch(db, model, codec, { partition, from, events, token }, { parks }),
      );
      return done.to;
    },
  };
}

/** Never makes a checkpoint: without one the rebuild is over, and its table live or gone. */
async function openExisting(
  db: Kysely<Database>,
  group: string,
  partition: number,
  token: number,
): Promise<Checkpoint | undefined> {
  const row = await db
    .updateTable('checkpoints')
    .set({ token })
    .where('group_name', '=', group)
    .where('partition', '=', partition)
    .where('token', '<=', token)
    .returning(['epoch', 'seq', 'event_id as eventId'])
    .executeTakeFirst();
  return row as Checkpoint | undefined;
}
