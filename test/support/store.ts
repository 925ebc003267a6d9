import { randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { streamId } from '../../src/domain/ids.ts';
import type { Argument } from '../../src/eventstore/script-call.ts';
import { createEventStore, type EventStoreOptions, type OpenEventStore } from '../../src/eventstore/store.ts';
import type { AppendToStream, Expected } from '../../src/eventstore/types.ts';
import type { World } from './world.ts';

/** A store on a world, closed when the test ends. Four partitions unless said otherwise. */
export async function openStore(
  world: World,
  options: Partial<EventStoreOptions> = {},
): Promise<OpenEventStore> {
  const store = await createEventStore({
    redisUrl: world.redisUrl,
    db: world.db,
    prefix: world.prefix,
    partitions: 4,
    name: 'test',
    ...options,
  });
  onTestFinished(() => store.close());
  return store;
}

export function newStream(partition = 0, kind: 'job' | 'email' | 'ses' = 'job'): StreamId {
  return streamId(kind, partition, randomBytes(12).toString('hex'));
}

export const minted: Expected = { kind: 'minted' };
export function atVersion(version: number, scannedTo?: number): Expected {
  return { kind: 'loaded', version, ...(scannedTo === undefined ? {} : { scannedTo }) };
}

/** Appends `count` events that the codec knows, with a state that says how many there are by now. */
export function append(stream: StreamId, expected: Expected = minted, count = 1): AppendToStream {
  const version = (expected.kind === 'loaded' ? expected.version : 0) + count;
  return {
    streamId: stream,
    expected,
    events: Array.from({ length: count }, () => ({
      id: randomBytes(8).toString('hex') as EventId,
      type: 'EmailClaimed',
      data: JSON.stringify({ accountId: `acc-${'é'.repeat(3)}` }),
      meta: JSON.stringify({ schema: 1, at: '2026-11-20T00:00:00.000Z', actor: 'test', correlation: 'c' }),
    })),
    state: { json: JSON.stringify({ count: version }), fold: 1 },
  };
}

/** Folds what `append` writes. */
export const countFold = {
  fold: 1,
  initial: { count: 0 },
  evolve: (state: { count: number }) => ({ count: state.count + 1 }),
};

/** Arguments of a script, each in one piece. */
export function whole(args: readonly Argument[]): (string | number)[] {
  return args.map((arg) => (typeof arg === 'object' ? arg.join('') : arg));
}
