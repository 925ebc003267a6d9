import type { Redis } from 'ioredis';
import { decidedAt } from '../../consumers/event-meta.ts';
import { aliveMembers } from '../../consumers/membership.ts';
import { readCursor } from '../../consumers/reactor-cursor.ts';
import { readUpTo } from '../../consumers/read-up-to.ts';
import type { Place } from '../../domain/feed.ts';
import { parseLogEntries } from '../../eventstore/log.ts';
import { readMetas } from '../../eventstore/meta.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import { type Pending, readPending } from './pending.ts';

const ROLES = ['api', 'projectors', 'workers'] as const;

/** What Redis says of one partition. */
export type LogStanding = {
  readonly epoch: number;
  readonly head: number;
  readonly length: number;
  /** Seq of the oldest entry; undefined: it is empty. */
  readonly first?: number;
};

export type RedisStanding = {
  /** By partition; undefined: Redis has no such partition. */
  readonly logs: readonly (LogStanding | undefined)[];
  /** Members of each role, with the groups that each has. */
  readonly members: ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>;
  /** Owner by group, by partition. */
  readonly owners: ReadonlyMap<string, readonly (string | undefined)[]>;
  /** Of reactors, by partition; seq 0: it has read nothing yet. */
  readonly cursors: ReadonlyMap<string, readonly Place[]>;
  /** Of lanes. */
  readonly pending: ReadonlyMap<string, Pending>;
};

type Deps = { readonly redis: Redis; readonly keys: readonly PartitionKeys[]; readonly prefix: string };

/** @param groups beside those that members have. Throws what the connection throws. */
export async function readRedis(
  deps: Deps,
  groups: readonly string[],
  reactors: readonly string[],
): Promise<RedisStanding> {
  const { redis, keys, prefix } = deps;
  const [metas, lengths, firsts, members, cursors, pending] = await Promise.all([
    readMetas(redis, keys),
    inOne(redis, keys, (pipeline, { log }) => pipeline.xlen(log)),
    inOne(redis, keys, (pipeline, { log }) => pipeline.xrange(log, '-', '+', 'COUNT', 1)),
    Promise.all(ROLES.map(async (role) => [role, await aliveMembers(redis, prefix, role)] as const)),
    Promise.all(reactors.map(async (name) => [name, await cursorsOf(deps, name)] as const)),
    readPending(redis, keys),
  ]);
  const of = new Set(groups);
  for (const [role, its] of members) {
    if (role !== 'api') for (const has of its.values()) for (const group of has) if (group) of.add(group);
  }
  const owners = await Promise.all(
    [...of].map(async (group) => {
      const found = await inOne(redis, keys, (pipeline, { lease }) => pipeline.hget(lease(group), 'owner'));
      return [group, found.map((owner) => (typeof owner === 'string' ? owner : undefined))] as const;
    }),
  );
  const logs = metas.map((meta, partition): LogStanding | undefined => {
    if (!meta) return undefined;
    const first = seqOf(firsts[partition]);
    const length = Number(lengths[partition]);
    return { epoch: meta.epoch, head: meta.seq, length, ...(first === undefined ? {} : { first }) };
  });
  return { logs, members: new Map(members), owners: new Map(owners), cursors: new Map(cursors), pending };
}

/** When the event after a place was decided, ms since 1970. Undefined: the log does not have it. */
export async function timeAfter(
  redis: Redis,
  keys: PartitionKeys,
  place: Place,
): Promise<number | undefined> {
  const entries = await redis.xrange(keys.log, `(${place.epoch}-${place.seq}`, '+', 'COUNT', 1);
  const [next] = parseLogEntries(keys.partition, entries);
  return next?.seq === place.seq + 1 ? decidedAt(next.meta) : undefined;
}

/** Its cursor moves now and then, so what its owner says it has read goes beyond. */
async function cursorsOf({ redis, keys, prefix }: Deps, reactor: string): Promise<Place[]> {
  const [texts, told] = await Promise.all([
    inOne(redis, keys, (pipeline, { cursor }) => pipeline.get(cursor(reactor))),
    readUpTo(redis, prefix, reactor),
  ]);
  return texts.map((text, partition) => {
    const { epoch, seq } = readCursor(typeof text === 'string' ? text : '');
    return { epoch, seq: Math.max(seq, told.get(partition) ?? 0) };
  });
}

type Pipeline = ReturnType<Redis['pipeline']>;

/** One command for each partition, in one round trip. */
async function inOne(
  redis: Redis,
  keys: readonly PartitionKeys[],
  ask: (pipeline: Pipeline, keys: PartitionKeys) => unknown,
): Promise<unknown[]> {
  const pipeline = redis.pipeline();
  for (const each of keys) ask(pipeline, each);
  return ((await pipeline.exec()) ?? []).map(([error, answer]) => {
    if (error) throw error;
    return answer;
  });
}

function seqOf(entries: unknown): number | undefined {
  const [entry]: unknown[] = Array.isArray(entries) ? entries : [];
  const [id]: unknown[] = Array.isArray(entry) ? entry : [];
  return typeof id === 'string' ? Number(id.split('-')[1]) : undefined;
}
