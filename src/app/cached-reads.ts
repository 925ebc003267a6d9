import type { Kysely } from 'kysely';
import { type Entry, forgetAllReads, forgetReads, type ReadCache } from '../access/read-cache.ts';
import type { Config } from '../config.ts';
import type { RecordedEvent } from '../domain/events.ts';
import { parseStreamId, partitionOf } from '../domain/ids.ts';
import type { Position } from '../domain/position.ts';
import { connectReader } from '../eventstore/connections.ts';
import type { FindOne } from '../http/consistency.ts';
import type { Database } from '../projections/database.ts';
import { anyParkedOf } from '../projections/parked.ts';
import { groupOf, type Keying } from '../projections/projection.ts';
import type { Reading, ReadModelQuery, Wanted } from '../projections/reading.ts';
import type { Logger } from '../telemetry/logging.ts';

/** A silent Redis is given up after that: Postgres answers. */
const PATIENCE_MS = 500;

/** A query for one thing that may be answered from the cache. */
export type CachedQuery<V> = {
  readonly projection: ReadModelQuery['projection'];
  readonly find: (db: Kysely<Database>, id: string, owner?: string) => Promise<V | undefined>;
  /** Whether what was found may be kept: it follows from the events of its own row alone. Undefined: nothing is. */
  readonly keeps?: (value: V, owner: string | undefined) => boolean;
};

export type CacheOutcome = 'hit' | 'miss' | 'older' | 'away';

type Found<V> = { readonly owner: string | null; readonly value: V };

/** A connection for the cache alone, so that it holds up no writer. */
export function connectCache(config: Config, name: string) {
  return connectReader({ url: config.REDIS_URL, name: `${name}-cache`, replyWithinMs: PATIENCE_MS });
}

/** Answers single things from the cache while it has what is wanted; reads the others, and keeps them for the next one. */
export function createCachedReads(deps: {
  readonly cache: ReadCache;
  readonly reading: Reading;
  readonly onLook: (projection: string, outcome: CacheOutcome) => void;
}) {
  const { cache, reading, onLook } = deps;

  return <V>({ projection, find, keeps }: Required<CachedQuery<V>>): FindOne<V> => {
    const group = groupOf(projection);
    /** What is being read for all that ask for it just now. */
    const underWay = new Map<string, Promise<V | undefined>>();

    const read = oneBy(reading, projection, find);

    /** From the primary, as what a replica still lacks was forgotten here before. */
    async function readAndKeep(id: string, owner: string | undefined, lease: string, wanted: Wanted) {
      const [partition] = partitionsIn(id);
      let mark: Position | undefined;
      const onAnswer = (at: readonly Position[]) => {
        mark = at.find((position) => position.partition === partition);
        wanted.onAnswer?.(at);
      };
      let entry: Entry | undefined;
      try {
        const about = { projection, partitions: partitionsIn(id) };
        const { value, whole } = await reading(
          about,
          { ...wanted, newest: true, exact: true, onAnswer },
          async (from) => ({
            value: await find(from, id, owner),
            whole: partition !== undefined && !(await anyParkedOf(from, group, partition)),
          }),
        );
        if (mark && whole && value !== undefined && keeps(value, owner)) {
          const found: Found<V> = { owner: owner ?? null, value };
          entry = { mark, text: JSON.stringify(found) };
        }
        return value;
      } finally {
        void cache.keep(`${group}:${id}`, lease, entry);
      }
    }

    async function ask(id: string, owner: string | undefined, wanted: Wanted): Promise<V | undefined> {
      const seen = await cache.look(`${group}:${id}`);
      if (typeof seen === 'string') {
        onLook(projection.name, seen === 'away' ? 'away' : 'miss');
        return read(id, owner, wanted);
      }
      if ('lease' in seen) {
        onLook(projection.name, 'miss');
        return readAndKeep(id, owner, seen.lease, wanted);
      }
      const [partition] = partitionsIn(id);
      // Written by `readAndKeep`.
      const found = JSON.parse(seen.text) as Found<V>;
      if (
        partition === undefined ||
        found.owner !== (owner ?? null) ||
        !includes(seen, partition, wanted.positions)
      ) {
        onLook(projection.name, 'older');
        return read(id, owner, wanted);
      }
      onLook(projection.name, 'hit');
      wanted.onAnswer?.([{ partition, ...seen.mark }]);
      return found.value;
    }

    return (id, owner, wanted) => {
      if (wanted.newest) return read(id, owner, wanted);
      // Who brings a position has an answer of his own; all others that come meanwhile have one.
      if (wanted.positions.length > 0) return ask(id, owner, wanted);
      const name = `${owner ?? ''} ${id}`;
      const flight =
        underWay.get(name) ??
        ask(id, owner, wanted).finally(() => {
          underWay.delete(name);
        });
      underWay.set(name, flight);
      return flight;
    };
  };
}

/** Within one epoch an event is there or will be; whether one of another was lost Postgres is asked. */
function includes({ mark }: Entry, partition: number, positions: readonly Position[]): boolean {
  return positions.every(
    (position) =>
      position.partition === partition && position.epoch === mark.epoch && position.seq <= mark.seq,
  );
}

/** A query for one thing, whose id says which partition its row follows. */
export function oneBy<V>(
  reading: Reading,
  projection: ReadModelQuery['projection'],
  find: CachedQuery<V>['find'],
): FindOne<V> {
  return (id, owner, wanted) =>
    reading({ projection, partitions: partitionsIn(id) }, wanted, (from) => find(from, id, owner));
}

function partitionsIn(id: string): number[] {
  const stream = parseStreamId(id);
  return stream ? [partitionOf(stream)] : [];
}

/** Forgets what a batch has changed, once it is visible. */
export function forgetApplied(
  connection: ReturnType<typeof connectReader>,
  prefix: string,
  projection: Keying & { readonly name: string; readonly version: number },
): (applied: readonly RecordedEvent[]) => void {
  const group = groupOf(projection);
  return (applied) => {
    const keys = new Set(applied.flatMap((event) => projection.key(event) ?? []));
    void forgetReads(
      connection.redis,
      prefix,
      [...keys].map((key) => `${group}:${key}`),
    );
  };
}

/** Forgets all that was read of a group's rows: a rebuild that went live changes some of which no event tells. */
export function forgetGroup(
  connection: ReturnType<typeof connectReader>,
  { KEY_PREFIX }: Pick<Config, 'KEY_PREFIX'>,
  logger: Logger,
): (group: string) => void {
  return (group) => {
    forgetAllReads(connection.redis, KEY_PREFIX, `${group}:`).catch((err: unknown) =>
      logger.warn({ err, group }, 'the read cache was not told of a rebuild: what it has runs out'),
    );
  };
}
