import type { Redis } from 'ioredis';
import { type Connection, runScript } from '../eventstore/connections.ts';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import { tokenField } from '../eventstore/set-back.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import { monotonicMs } from './lease-cell.ts';
import type { KeptLease, LeaseKeeper } from './lease-keeper.ts';
import { releaseScript } from './renewals.ts';
import { readScript } from './scripts.ts';

const acquireScript = readScript(import.meta.url, './lease-acquire.lua');

/** A lease counts as lost this part of its time before it can have run out: what was begun has time to end. */
const MARGIN = 0.2;

/** Which (group, partition). */
export type Share = { readonly group: string; readonly partition: number };

/** The right to act for a group in a partition. It is for liveness; safety is its fencing token. */
export type Lease = Share & {
  readonly token: number;
  /** Run id of the server that it was taken at: its token is good for what is read there, and nowhere else. */
  readonly runId: string;
  /** Aborted once the lease is lost; not by `release`. */
  readonly lost: AbortSignal;
  /** Whether it can be relied on right now: ask before each step. */
  held(): boolean;
  /** Whether it is held and its renewal is neither failing nor late: ask before anything new is begun. */
  secure(): boolean;
  /** Gives it back. Never throws: what can't be given back runs out. */
  release(): Promise<void>;
};

export type Leases = {
  /** Takes what is free of `wanted`, or a part of it. Throws when Postgres or Redis is away: then nothing changes hands. */
  acquire(wanted: readonly Share[]): Promise<Lease[]>;
  /** Ends leases of dead predecessors: the same instance id, another nonce. */
  endPredecessors(shares: readonly Share[]): Promise<number>;
};

/**
 * @param deps.owner `<instanceId>#<nonce>`
 * @param deps.mintTokens takes n values of the Postgres sequence `fencing_tokens`, if the ledger trusts the server: above
 *   those that Redis knows, though Postgres may have been set back to before it gave these out
 */
export function createLeases(deps: {
  readonly connection: Connection;
  readonly keeper: LeaseKeeper;
  readonly owner: string;
  readonly keys: readonly PartitionKeys[];
  readonly mintTokens: (count: number, runId: string, above: number) => Promise<number[]>;
}): Leases {
  const { connection, keeper, owner } = deps;
  const { redis } = connection;
  const { leaseMs } = keeper;
  const keysOf = ({ group, partition }: Share) => {
    const keys = deps.keys[partition];
    if (!keys) throw new Error(`there is no partition ${partition}`);
    return { lease: keys.lease(group), meta: keys.meta };
  };

  async function take(share: Share, token: number, runId: string): Promise<Lease | undefined> {
    const { lease: key, meta } = keysOf(share);
    const asked = monotonicMs();
    const giveBack = async () => {
      await runScript(redis, releaseScript, [key], ['token', token]).catch(() => {});
    };
    const reply = await runScript(
      redis,
      acquireScript,
      [key, meta],
      [...[owner, token, leaseMs], tokenField(share.group)],
    );
    if (reply !== 1) return undefined;
    if (connection.runId() !== runId) {
      // Taken at another server than the one that the token is for.
      await giveBack();
      return undefined;
    }
    const kept = keeper.keep(key, token, asked);
    return holdLease({ ...share, token, runId }, kept, leaseMs * MARGIN, giveBack);
  }

  return {
    async acquire(wanted) {
      const { free, highest } = await whatIsFree(redis, owner, wanted, keysOf);
      if (free.length === 0) return [];
      const runId = connection.runId();
      if (runId === undefined || !keeper.connected())
        throw new StoreUnavailableError('Redis is not reachable');
      const tokens = await deps.mintTokens(free.length, runId, highest);
      const taken = await Promise.allSettled(
        free.map(async (share, index) => {
          const token = tokens[index];
          return token === undefined ? undefined : take(share, token, runId);
        }),
      );
      const leases = taken.flatMap((each) => (each.status === 'fulfilled' ? (each.value ?? []) : []));
      const failed = taken.find((each) => each.status === 'rejected');
      // What was taken is handed out although others failed: nobody else could give it back, and it would be renewed for ever.
      if (failed && leases.length === 0) throw failed.reason;
      return leases;
    },
    async endPredecessors(shares) {
      const ended = await Promise.all(
        shares.map((share) => runScript(redis, releaseScript, [keysOf(share).lease], ['predecessor', owner])),
      );
      return ended.filter((reply) => reply === 1).length;
    },
  };
}

/** A look first: tokens come from Postgres, and what another holds is not worth asking it. With the highest token known. */
async function whatIsFree(
  redis: Redis,
  owner: string,
  wanted: readonly Share[],
  keysOf: (share: Share) => { readonly lease: string; readonly meta: string },
): Promise<{ free: Share[]; highest: number }> {
  const instance = owner.slice(0, owner.lastIndexOf('#') + 1);
  const [owners, tokens] = await Promise.all([
    Promise.all(wanted.map((share) => redis.hget(keysOf(share).lease, 'owner'))),
    Promise.all(wanted.map((share) => redis.hget(keysOf(share).meta, tokenField(share.group)))),
  ]);
  const free = wanted.filter((_, index) => {
    const holder = owners[index];
    return !holder || holder.startsWith(instance);
  });
  return { free, highest: Math.max(0, ...tokens.map(Number)) };
}

function holdLease(
  lease: Share & Pick<Lease, 'token' | 'runId'>,
  kept: KeptLease,
  marginMs: number,
  giveBack: () => Promise<void>,
): Lease {
  const lost = new AbortController();
  let released = false;
  const left = () => kept.validUntil() - marginMs - monotonicMs();
  let watch: NodeJS.Timeout | undefined;
  const look = () => {
    if (released) return;
    const ms = left();
    if (ms > 0) {
      // A renewal that Redis refused is noticed within a second, not when the time is up.
      watch = setTimeout(look, Math.min(ms, 1_000));
      return;
    }
    kept.forget();
    lost.abort(new LeaseLostError(lease));
  };
  look();
  const held = () => !released && !lost.signal.aborted && left() > 0;
  return {
    ...lease,
    lost: lost.signal,
    held,
    secure: () => held() && kept.renewed(),
    async release() {
      if (released) return;
      released = true;
      clearTimeout(watch);
      kept.forget();
      await giveBack();
    },
  };
}

/** Somebody else may own this by now: drop what you hold. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
  constructor({ group, partition }: Share) {
    super(`the lease of ${group} in partition ${partition} is lost`);
  }
}
