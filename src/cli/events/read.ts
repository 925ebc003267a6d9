import { createHmacs, type Hmac } from '../../access/signing.ts';
import { openArchives } from '../../app/archives.ts';
import { feedOf } from '../../app/following.ts';
import { type FeedPage, firstPlaces } from '../../domain/feed.ts';
import { type FeedDeps, readFeed } from '../../eventstore/feed/read.ts';
import { createKeys } from '../../eventstore/partitions.ts';
import { StoreUnavailableError } from '../../eventstore/types.ts';
import { placesOf, writePlaces } from '../../http/events/cursor.ts';
import { withInstallation, withPostgres } from '../installation.ts';
import type { ListOptions } from '../output/pages.ts';
import { checkTimes } from '../output/time.ts';
import { eventLines, type FilterOptions, filterOf } from './lines.ts';

const PAGE = 200;

type Options = ListOptions & FilterOptions;

/** `millrace events read` */
export async function readEvents(options: Options): Promise<void> {
  checkTimes(options);
  try {
    await withInstallation((side, { config }) => print(feedOf(side), createHmacs(config.HMAC_KEY), options));
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    await withPostgres((db, config) => {
      const keys = createKeys(config.KEY_PREFIX, config.PARTITIONS);
      return print({ db, keys, archives: openArchives(config) }, createHmacs(config.HMAC_KEY), options);
    });
  }
}

async function print(deps: FeedDeps, hmac: Hmac, options: Options): Promise<void> {
  const { all, json, limit, cursor } = options;
  const partitions = deps.keys.length;
  const filter = filterOf(options);
  const draw = eventLines(json);
  let after = cursor === undefined ? firstPlaces(partitions) : placesOf(hmac, partitions, cursor);
  let page: FeedPage;
  let count = 0;
  do {
    page = await readFeed(deps, { after, filter, limit: all ? PAGE : limit - count });
    draw(page.events);
    after = page.end;
    count += page.events.length;
  } while (page.more && (all || count < limit));
  if (count === 0 && !json) console.error('There are none.');
  if (page.more) console.error(`There are more: --all, or --cursor ${writePlaces(hmac, page.end)}`);
  if (!page.whole)
    console.error('Redis can’t be read: events that the ledger has not got yet are not shown.');
}
