import type { Kysely } from 'kysely';
import type { LostRange, Places } from '../../domain/feed.ts';
import { LEDGER_GROUP } from '../checkpoints.ts';
import { ask } from '../history.ts';
import { readMetas } from '../meta.ts';
import type { LedgerTables } from '../tables.ts';
import type { FeedDeps } from './read.ts';

/**
 * Where a reader goes on who has had these: his own places, save where what he had last was lost with Redis. There it
 * is the last event that stands, and what is new since follows it.
 */
export async function placesThatStand(
  db: Kysely<LedgerTables>,
  places: Places,
): Promise<{ readonly places: Places; readonly lost: readonly LostRange[] }> {
  const ended = await db
    .selectFrom('epochs')
    .select(['partition', 'epoch', 'last_seq'])
    .where('last_seq', 'is not', null)
    .execute();
  const ends = new Map(ended.map(({ partition, epoch, last_seq }) => [`${partition} ${epoch}`, last_seq]));
  const lost: LostRange[] = [];
  const standing = places.map(({ epoch, seq }, partition) => {
    const end = ends.get(`${partition} ${epoch}`) ?? Number.POSITIVE_INFINITY;
    if (seq <= end) return { epoch, seq };
    lost.push({ partition, from: end + 1, to: seq });
    return { epoch, seq: end };
  });
  return { places: standing, lost };
}

/** Where the partitions end now: what is committed later comes behind. Without the log, as far as the ledger has them. */
export async function placesNow({ db, keys, log }: Pick<FeedDeps, 'db' | 'keys' | 'log'>): Promise<Places> {
  return ask(async () => {
    if (
      log &&
      keys.every(({ partition }) => log.fence.trusted(partition)?.runId === log.connection.runId())
    ) {
      const metas = await readMetas(log.connection.redis, keys);
      return metas.map((meta) => ({ epoch: meta?.epoch ?? 0, seq: meta?.seq ?? 0 }));
    }
    const heads = await db
      .selectFrom('checkpoints')
      .select(['partition', 'epoch', 'seq'])
      .where('group_name', '=', LEDGER_GROUP)
      .execute();
    return keys.map(({ partition }) => {
      const head = heads.find((each) => each.partition === partition);
      return { epoch: head?.epoch ?? 0, seq: head?.seq ?? 0 };
    });
  });
}
