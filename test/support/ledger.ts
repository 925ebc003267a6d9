import { LEDGER_GROUP, moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { readLogAfter } from '../../src/eventstore/log.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { World } from './world.ts';

/** Copies a partition's log into the ledger, as the ledger's group does, without its lease and its hash chain. */
export async function copyToLedger({ db }: World, store: OpenEventStore, partition: number): Promise<number> {
  const keys = store.keys[partition];
  if (!keys) throw new Error(`there is no partition ${partition}`);
  const token = 1_000_000_000; // above whatever a reconcile has drawn
  const from = await openCheckpoint(db, LEDGER_GROUP, partition, token);
  await store.reader.whenReady(5_000); // commits may go on a moment before reads do
  const events = await readLogAfter(store.reader.redis, keys, from, 100_000);
  const last = events.at(-1);
  if (!last) return from.seq;
  await db.transaction().execute(async (trx) => {
    await trx
      .insertInto('ledger')
      .values(
        events.map(({ id, streamId, ...event }) => ({
          ...event,
          event_id: id,
          stream_id: streamId,
          owner: null,
          correlation: null,
          recorded_at: new Date(),
        })),
      )
      .execute();
    const to = { epoch: last.epoch, seq: last.seq, eventId: last.id };
    await moveCheckpoint(trx, { group: LEDGER_GROUP, partition, from, to, token });
  });
  return last.seq;
}

/** The epochs of a partition and where each that is over ended, oldest first. */
export function epochsOf({ db }: Pick<World, 'db'>, partition = 0) {
  return db
    .selectFrom('epochs')
    .select(['epoch', 'last_seq'])
    .where('partition', '=', partition)
    .orderBy('epoch')
    .execute();
}
