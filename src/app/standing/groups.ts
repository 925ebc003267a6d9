import type { Place } from '../../domain/feed.ts';
import { projections } from '../../features.ts';
import type { GroupStanding, ProjectionStanding } from '../../http/standing/schemas.ts';
import { groupOf } from '../../projections/projection.ts';
import { viewRebuild } from '../../projections/rebuild/progress.ts';
import { type KnownGroup, knownGroups } from '../groups.ts';
import { type PostgresStanding, type ReadModelRow, timeInLedger } from './postgres.ts';
import type { StandingDeps } from './read.ts';
import { type RedisStanding, timeAfter } from './redis.ts';

/** What the servers said; undefined: one that is away. */
export type Found = {
  readonly deps: StandingDeps;
  readonly redis: RedisStanding | undefined;
  readonly postgres: PostgresStanding | undefined;
};

type Share = GroupStanding['shares'][number];

/** All groups that this code knows, and those that other processes have: of another release, or that take work. */
export function groupStandings(found: Found): Promise<GroupStanding[]> {
  const known = knownGroups();
  const names = new Set(known.map(({ name }) => name));
  const others = [...(found.redis?.owners.keys() ?? [])]
    .filter((name) => !names.has(name))
    .sort()
    .map((name): KnownGroup | { name: string; kind: 'work' } => ({
      name,
      kind: /^(projection|rebuild):/.test(name) ? 'projection' : 'work',
    }));
  return Promise.all([...known, ...others].map((group) => groupStanding(found, group)));
}

async function groupStanding(
  found: Found,
  { name, kind }: { readonly name: string; readonly kind: GroupStanding['kind'] },
): Promise<GroupStanding> {
  const { redis, postgres } = found;
  const shares = await sharesOf(found, name, kind);
  return {
    ...{ id: name, kind, partitions: shares.length },
    ...(redis ? { members: membersOf(redis, name), owned: shares.filter(({ owner }) => owner).length } : {}),
    ...together(shares),
    ...(kind === 'projection' && postgres ? { parked: postgres.parked.get(name)?.events ?? 0 } : {}),
    ...pendingOf(found, name),
    ...pauseOf(found, name),
    shares,
  };
}

function pendingOf(
  { deps, redis }: Found,
  group: string,
): Pick<GroupStanding, 'pending' | 'oldestPendingSeconds'> {
  const pending = redis?.pending.get(group);
  if (!pending) return {};
  const { count, since } = pending;
  return {
    pending: count,
    ...(since === undefined ? {} : { oldestPendingSeconds: secondsSince(deps, since) }),
  };
}

function membersOf({ members }: RedisStanding, group: string): string[] {
  return [...members].flatMap(([role, its]) =>
    role === 'api' ? [] : [...its].filter(([, groups]) => groups.has(group)).map(([member]) => member),
  );
}

/** All versions of all read models that there are tables of. */
export async function projectionStandings(found: Found): Promise<ProjectionStanding[]> {
  const { postgres } = found;
  const current = new Set(Object.values(projections).map(groupOf));
  return Promise.all(
    (postgres?.readModels ?? []).map(async (row): Promise<ProjectionStanding> => {
      const group = groupOf({ name: row.projection, version: row.version });
      const shares = await sharesOf(found, group, 'projection');
      const { events = 0, rows = 0 } = postgres?.parked.get(group) ?? {};
      const [position, target] = [total(shares, 'position'), total(shares, 'target')];
      return {
        ...{ id: row.projection, version: row.version, current: current.has(group) },
        ...{ table: row.table_name, generation: row.generation, group },
        ...(row.caught_up_at ? { caughtUpAt: row.caught_up_at.toISOString() } : {}),
        ...(position === undefined ? {} : { position }),
        ...(target === undefined ? {} : { target }),
        ...together(shares),
        ...{ parked: events, parkedRows: rows },
        ...pauseOf(found, group),
        shares,
        ...rebuildOf(found, row),
      };
    }),
  );
}

/** To a tenth. */
function secondsSince({ now }: Found['deps'], time: number): number {
  return Math.max(0, Math.round((now().getTime() - time) / 100) / 10);
}

async function sharesOf(found: Found, group: string, kind: GroupStanding['kind']): Promise<Share[]> {
  const { deps, redis, postgres } = found;
  return Promise.all(
    deps.keys.map(async ({ partition }): Promise<Share> => {
      const owner = redis?.owners.get(group)?.[partition];
      const place = placeOf(found, group, kind, partition);
      const target = kind === 'work' ? undefined : redis?.logs[partition]?.head;
      const behind = place && target !== undefined ? Math.max(0, target - place.seq) : undefined;
      const since = place && behind ? await timeOfNext(found, partition, place) : undefined;
      return {
        partition,
        ...(owner === undefined ? {} : { owner }),
        ...(place === undefined ? {} : { position: place.seq }),
        ...(target === undefined ? {} : { target }),
        ...(behind === undefined ? {} : { lagEvents: behind }),
        ...(behind === 0 ? { lagSeconds: 0 } : {}),
        ...(since === undefined ? {} : { lagSeconds: secondsSince(deps, since) }),
      };
    }),
  );

  function placeOf({ redis }: Found, name: string, kind: GroupStanding['kind'], partition: number) {
    if (kind === 'work') return undefined;
    if (kind === 'reactor') return redis?.cursors.get(name)?.[partition];
    return postgres && (postgres.checkpoints.get(name)?.get(partition) ?? { epoch: 0, seq: 0 });
  }
}

/** From the log; of who is behind its first entry, from the ledger. */
async function timeOfNext({ deps }: Found, partition: number, place: Place): Promise<number | undefined> {
  const { keys, redis, db } = deps;
  const its = keys[partition];
  const inLog = redis && its ? await timeAfter(redis, its, place).catch(() => undefined) : undefined;
  return inLog ?? timeInLedger(db, partition, place).catch(() => undefined);
}

/** Unknown as soon as one of them is. */
function together(shares: readonly Share[]): { lagEvents?: number; lagSeconds?: number } {
  const lagEvents = total(shares, 'lagEvents');
  if (lagEvents === undefined) return {};
  const ages = shares.map(({ lagSeconds }) => lagSeconds);
  const known = ages.filter((age) => age !== undefined);
  return { lagEvents, ...(known.length === ages.length ? { lagSeconds: Math.max(0, ...known) } : {}) };
}

function total(shares: readonly Share[], what: 'position' | 'target' | 'lagEvents'): number | undefined {
  let sum = 0;
  for (const { [what]: value } of shares) {
    if (value === undefined) return undefined;
    sum += value;
  }
  return sum;
}

function pauseOf({ postgres }: Found, group: string): Pick<GroupStanding, 'paused'> {
  const pause = postgres?.pauses.get(group);
  return pause ? { paused: { since: pause.since.toISOString(), by: pause.by, reason: pause.reason } } : {};
}

function rebuildOf(
  { postgres }: Found,
  { projection, version }: ReadModelRow,
): Pick<ProjectionStanding, 'rebuild'> {
  const last = postgres?.rebuilds.find((each) => each.projection === projection && each.version === version);
  if (!last) return {};
  const { projection: _, version: __, ...rebuild } = viewRebuild(last);
  return { rebuild };
}
