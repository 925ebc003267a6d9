import { createHmacs, type Hmac } from '../../access/signing.ts';
import { openArchives } from '../../app/archives.ts';
import type { RawEvent } from '../../domain/event.ts';
import type { StreamId } from '../../domain/ids.ts';
import type { HistoryRange } from '../../eventstore/history.ts';
import { readStream } from '../../eventstore/ledger-read.ts';
import { StoreUnavailableError } from '../../eventstore/types.ts';
import { readVersionCursor, writeVersionCursor } from '../../http/cursors.ts';
import { RefusedError } from '../changes.ts';
import { withInstallation, withPostgres } from '../installation.ts';
import type { ListOptions } from '../output/pages.ts';
import { eventLines } from './lines.ts';

const PAGE = 200;

type Read = (id: StreamId, range: HistoryRange) => Promise<readonly RawEvent[]>;

/** `millrace streams show` */
export async function showStream(id: StreamId, options: ListOptions): Promise<void> {
  try {
    await withInstallation(({ store, hmac }) => print(store.history, hmac, id, options));
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    await withPostgres((db, config) => {
      const read: Read = (id, range) => readStream(db, id, range, openArchives(config));
      return print(read, createHmacs(config.HMAC_KEY), id, options);
    });
    console.error('Redis can’t be read: events that the ledger has not got yet are not shown.');
  }
}

async function print(read: Read, hmac: Hmac, id: StreamId, options: ListOptions): Promise<void> {
  const { all, json, cursor } = options;
  const limit = all ? PAGE : options.limit;
  const list = `stream ${id}`;
  const draw = eventLines(json);
  let after = readVersionCursor(hmac, list, cursor);
  for (;;) {
    // One more than asked for says whether there is a next page.
    const found = await read(id, { after, limit: limit + 1 });
    const events = found.slice(0, limit);
    draw(events);
    const last = events.at(-1);
    if (!last && after === 0) throw new RefusedError('not_found', `There is no stream ${id}.`);
    if (!last || found.length <= limit) return;
    after = last.version;
    if (!all) {
      console.error(`There are more: --all, or --cursor ${writeVersionCursor(hmac, list, after)}`);
      return;
    }
  }
}
