import type { RawEvent } from '../../src/domain/event.ts';
import { parseLogEntries } from '../../src/eventstore/log.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';

/** What is in the log of a partition, oldest first. */
export async function eventsInLog(store: OpenEventStore, partition = 0): Promise<RawEvent[]> {
  const keys = store.keys[partition];
  return keys ? parseLogEntries(partition, await store.reader.redis.xrange(keys.log, '-', '+')) : [];
}

/** Of all partitions, one after another. */
export async function eventsInLogs(store: OpenEventStore): Promise<RawEvent[]> {
  return (await Promise.all(store.keys.map(({ partition }) => eventsInLog(store, partition)))).flat();
}
