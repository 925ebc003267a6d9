import { openArchives } from '../app/archives.ts';
import type { Db } from '../app/base.ts';
import type { Config } from '../config.ts';
import type { RawEvent } from '../domain/event.ts';
import type { StreamId } from '../domain/ids.ts';
import { type HistoryRange, wholeHistory } from '../eventstore/history.ts';
import { readStream } from '../eventstore/ledger-read.ts';

/** All events of a stream that the ledger has: needs no Redis. */
export function ledgerHistory(db: Db, config: Config, id: StreamId): AsyncGenerator<RawEvent> {
  const archives = openArchives(config);
  const history = (of: StreamId, range: HistoryRange) => readStream(db, of, range, archives);
  return wholeHistory({ history }, id);
}
