import type { Db } from '../app/base.ts';
import type { RawEvent } from '../domain/event.ts';
import type { StreamId } from '../domain/ids.ts';
import { type HistoryRange, wholeHistory } from '../eventstore/history.ts';
import { readStream } from '../eventstore/ledger-read.ts';

/** All events of a stream that the ledger has: needs no Redis. */
export function ledgerHistory(db: Db, id: StreamId): AsyncGenerator<RawEvent> {
  const history = (of: StreamId, { after, limit }: HistoryRange) => readStream(db, of, after, limit);
  return wholeHistory({ history }, id);
}
