import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import type { Connection } from '../eventstore/connections.ts';
import { mintTokens } from '../eventstore/installation.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { memberName } from './assignment.ts';
import { type Hints, openHints } from './hints.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { createLeases, type Share } from './leases.ts';
import { joinMembers } from './membership.ts';
import { type Group, startOwnership } from './ownership.ts';
import { createYields } from './yields.ts';

/** Connections are made by the composition root; each one asked for is closed by who asked. */
export type Connections = {
  readonly blocking: (name: string, blockMs: number) => Connection;
  readonly subscriber: (name: string) => Redis;
  readonly leaseKeeper: () => LeaseKeeper;
};

export type RoleDeps = {
  /** The same for a process and its successor, another for each of those that run side by side. */
  readonly instanceId: string;
  /** KEY_PREFIX */
  readonly prefix: string;
  readonly store: OpenEventStore;
  readonly db: Kysely<LedgerTables>;
  readonly connections: Connections;
  readonly metrics: Metrics;
  readonly logger: Logger;
};

/** A role as `main.ts` runs it. */
export type RunningRole = {
  /** `<instanceId>#<nonce>` */
  readonly member: string;
  /** Resolves once it has taken all that it could of what it should own. */
  ready(): Promise<void>;
  /** Says that its groups are others now, and looks what it should own. */
  announce(): Promise<void>;
  /** What it owns now. */
  held(): readonly Share[];
  /** Ends what runs, and hands over at once. */
  stop(): Promise<void>;
};

/**
 * Joins a role's members and shares out its groups among them, until it is stopped. A process that starts ends
 * the leases of its own dead predecessors first.
 *
 * @param role `projectors`, `workers`: stored, a name for life. Its groups are its own: no other role has them.
 * @param groupsOf its groups, or a function that gives those of the moment
 */
export async function startRole(
  deps: RoleDeps,
  role: string,
  groupsOf: (hints: Hints, member: string) => readonly Group[] | (() => readonly Group[]),
): Promise<RunningRole> {
  const { store, prefix, logger } = deps;
  const { redis } = store.writer;
  const member = memberName(deps.instanceId, randomBytes(6).toString('hex'));
  const hints = await openHints(
    { publisher: redis, subscriber: deps.connections.subscriber(`${role}-hints`) },
    prefix,
    ['members', 'leases', 'timers', 'ticks', 'cancels', 'queues', 'groups', 'slots'],
  );
  const keeper = deps.connections.leaseKeeper();
  const leases = createLeases({
    connection: store.writer,
    keeper,
    owner: member,
    keys: store.keys,
    mintTokens: (...rest) => mintTokens(deps.db, ...rest),
  });
  const given = groupsOf(hints, member);
  const groups = typeof given === 'function' ? given : () => given;
  const shares = groups().flatMap(({ name }) =>
    store.keys.map(({ partition }) => ({ group: name, partition })),
  );
  const ended = await leases.endPredecessors(shares);
  if (ended > 0) logger.info({ leases: ended }, 'ended the leases of a dead predecessor');
  const membership = await joinMembers({
    redis,
    prefix,
    role,
    member,
    hints,
    groups: () => groups().map(({ name }) => name),
    onError: (err) => logger.debug({ err }, 'a heartbeat failed'),
  });
  await keeper.ready();
  const ownership = startOwnership({
    groups,
    partitions: store.partitions,
    membership,
    leases,
    yields: createYields(redis, prefix, role, member),
    hints,
    logger,
    metrics: deps.metrics,
  });
  return {
    member,
    ready: ownership.ready,
    announce: membership.announce,
    held: ownership.held,
    async stop() {
      await ownership.stop();
      await keeper.close();
      hints.close();
    },
  };
}
