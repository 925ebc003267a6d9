import type { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import { LEDGER_GROUP } from '../../eventstore/checkpoints.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import type { Standing } from '../../http/standing/routes.ts';
import type { PartitionStanding, WorkerStanding } from '../../http/standing/schemas.ts';
import type { Database } from '../../projections/database.ts';
import { knownGroups, REACTORS } from '../groups.ts';
import { type Found, groupStandings, projectionStandings } from './groups.ts';
import { type PostgresStanding, readPostgres } from './postgres.ts';
import { type RedisStanding, readRedis } from './redis.ts';

export type StandingDeps = {
  readonly db: Kysely<Database>;
  readonly keys: readonly PartitionKeys[];
  readonly prefix: string;
  /** Undefined: it can't be reached. */
  readonly redis: Redis | undefined;
  /** The time as Redis has it. */
  readonly now: () => Date;
  /** Why commits are stopped. */
  readonly fencedBecause: () => string | undefined;
  /** Used memory of Redis by its limit. */
  readonly memoryUsed?: () => number;
};

type Asked<T> = { readonly found?: T; readonly problem?: string };

/**
 * Where everything stands, as Redis and Postgres say at this moment. Where one is away, what it would say is left out, and
 * nothing is made up in its place. Never throws.
 */
export async function readStanding(deps: StandingDeps): Promise<Standing> {
  const { db, keys, prefix } = deps;
  const names = knownGroups().map(({ name }) => name);
  const [redis, postgres] = await Promise.all([
    asked(async () => {
      if (!deps.redis) throw new Error('Redis is not reachable');
      return readRedis({ redis: deps.redis, keys, prefix }, names, REACTORS);
    }),
    asked(() => readPostgres(db)),
  ]);
  const found: Found = {
    ...{ deps, redis: redis.found, postgres: postgres.found },
  };
  const groups = await groupStandings(found);
  const projections = await projectionStandings(found);
  const logs = redis.found?.logs ?? [];
  const because = deps.fencedBecause();
  const parked = postgres.found && sum([...postgres.found.parked.values()].map(({ events }) => events));
  return {
    overview: {
      redis: serverOf(redis),
      postgres: serverOf(postgres),
      commits: { stopped: because !== undefined, ...(because === undefined ? {} : { because }) },
      ...(deps.memoryUsed && redis.found ? { memoryUsed: deps.memoryUsed() } : {}),
      partitions: keys.length,
      ...(redis.found
        ? { events: sum(logs.map((log) => log?.head ?? 0)), inLog: sum(logs.map((log) => log?.length ?? 0)) }
        : {}),
      ...(parked === undefined ? {} : { parked }),
      processes: Object.fromEntries([...(redis.found?.members ?? [])].map(([role, its]) => [role, its.size])),
      groups: groups.map(({ shares: _shares, members: _members, ...group }) => group),
      rebuilding: projections.flatMap(({ id, rebuild }) => (rebuild && !rebuild.endedAt ? [id] : [])),
    },
    partitions: keys.map(({ partition }) => partitionStanding(partition, redis.found, postgres.found)),
    groups,
    workers: redis.found ? workersOf(redis.found) : [],
    projections,
  };
}

function partitionStanding(
  partition: number,
  redis: RedisStanding | undefined,
  postgres: PostgresStanding | undefined,
): PartitionStanding {
  const log = redis?.logs[partition];
  const ledger = postgres && (postgres.checkpoints.get(LEDGER_GROUP)?.get(partition)?.seq ?? 0);
  const owners = [...(redis?.owners ?? [])].flatMap(([group, its]) => {
    const owner = its[partition];
    return owner === undefined ? [] : [[group, owner] as const];
  });
  return {
    partition,
    ...(log ? { epoch: log.epoch, head: log.head, logLength: log.length } : {}),
    ...(log?.first === undefined ? {} : { logFirst: log.first }),
    ...(ledger === undefined ? {} : { ledger }),
    ...(log && ledger !== undefined ? { ledgerLag: Math.max(0, log.head - ledger) } : {}),
    owners: Object.fromEntries(owners),
  };
}

function workersOf({ members, owners }: RedisStanding): WorkerStanding[] {
  const held = [...owners.values()].flat();
  return [...members].flatMap(([role, its]) =>
    [...its].map(([member, groups]) => ({
      ...{ member, role, groups: [...groups].filter((group) => group !== '').sort() },
      leases: held.filter((owner) => owner === member).length,
    })),
  );
}

async function asked<T>(question: () => Promise<T>): Promise<Asked<T>> {
  try {
    return { found: await question() };
  } catch (error) {
    return { problem: error instanceof Error ? error.message || error.name : String(error) };
  }
}

const serverOf = ({ problem }: Asked<unknown>) =>
  problem === undefined ? { ok: true } : { ok: false, detail: problem };

const sum = (numbers: readonly number[]) => numbers.reduce((one, other) => one + other, 0);
