import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ownerOf } from './assignment.ts';
import type { Hints } from './hints.ts';
import type { Lease, Leases, Share } from './leases.ts';
import type { Membership } from './membership.ts';
import { shareKey, type Yields } from './yields.ts';

const LOOK_EVERY_MS = 1_000;
/** Hints come in swarms: sixteen leases released are one reason to look. */
const GATHER_HINTS_MS = 20;

/** What a runner ended with. */
export type Ended =
  /** All done: the lease may go to another. */
  | { readonly kind: 'done' }
  /** The lease is lost, or a newer owner was met. */
  | { readonly kind: 'lost' }
  /** This process should not own the share for a while. */
  | { readonly kind: 'yield'; readonly forMs: number };

/** What is being done under a lease. */
export type Running = {
  /** Resolves when nothing is done under the lease any more; never rejects. */
  readonly ended: Promise<Ended>;
  /** Another member should own this: end as soon as it does no harm. May be called again and again. */
  handOver(): void;
  /** The process stops: end after what is at hand. */
  stop(): void;
};

export type Group = { readonly name: string; readonly start: (lease: Lease) => Running };

export type Ownership = {
  /** Resolves after the first look that took all it could. */
  ready(): Promise<void>;
  /** The shares held now. */
  held(): readonly Share[];
  /** Leaves the members, ends all that runs, gives the leases back: each as soon as its runner has ended. */
  stop(): Promise<void>;
};

/**
 * Keeps what this process owns in step with the members of its role: about once a second, and at every hint, it
 * computes who should own what, takes what is free, and lets go of what should move. A holder goes on until its
 * runner has ended; what another holds is waited for. With Redis or Postgres away nothing changes hands.
 */
export function startOwnership(deps: {
  /** Those that this process can run now: one that is not there any more is handed over. */
  readonly groups: () => readonly Group[];
  readonly partitions: number;
  readonly membership: Membership;
  readonly leases: Leases;
  readonly yields: Yields;
  readonly hints: Hints;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'leaseChanges'>;
}): Ownership {
  const { membership, leases, yields, hints, logger } = deps;
  const running = new Map<string, { lease: Lease; runner: Running; over: Promise<void> }>();
  const firstLook = Promise.withResolvers<void>();
  let stopping = false;
  let looking: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let complained = false;
  let again = false;

  function plan(ms: number): void {
    clearTimeout(timer);
    if (!stopping) timer = setTimeout(tick, ms);
  }

  function tick(): void {
    if (looking) {
      again = true; // what was hinted at may have come too late for the look under way
      return;
    }
    looking = look()
      .then(
        () => {
          complained = false;
          firstLook.resolve();
        },
        (err: unknown) => {
          if (!complained) logger.warn({ err }, 'leases cannot change hands; what is held stays');
          complained = true;
        },
      )
      .finally(() => {
        looking = undefined;
        plan(again ? GATHER_HINTS_MS : LOOK_EVERY_MS);
        again = false;
      });
  }

  async function look(): Promise<void> {
    const [members, yielded] = await Promise.all([membership.alive(), yields.current()]);
    const groups = deps.groups();
    const wanted: (Share & { start: Group['start'] })[] = [];
    for (const { name: group, start } of groups) {
      const able = [...members].flatMap(([member, has]) => (has.has(group) ? member : []));
      for (let partition = 0; partition < deps.partitions; partition++) {
        const share = { group, partition };
        const willing = able.filter((member) => !yielded.get(shareKey(share))?.has(member));
        const mine = ownerOf(partition, willing) === membership.member;
        const holding = running.get(shareKey(share));
        if (holding && !mine && willing.length > 0) holding.runner.handOver();
        if (!holding && mine) wanted.push({ ...share, start });
      }
    }
    const names = new Set(groups.map(({ name }) => name));
    for (const { lease, runner } of running.values()) if (!names.has(lease.group)) runner.handOver();
    if (wanted.length === 0 || stopping) return;
    const starts = new Map(wanted.map((share) => [shareKey(share), share.start]));
    for (const lease of await leases.acquire(wanted)) {
      const start = starts.get(shareKey(lease));
      if (start && !stopping) begin(lease, start);
      else await lease.release();
    }
  }

  function begin(lease: Lease, start: Group['start']): void {
    const { group, partition } = lease;
    deps.metrics.leaseChanges.inc({ group, event: 'acquired' });
    logger.debug({ group, partition, token: lease.token }, 'lease acquired');
    const runner = start(lease);
    const over = runner.ended.then(async (ended) => {
      if (ended.kind === 'yield') {
        logger.error({ group, partition, forMs: ended.forMs }, 'yields the partition to other members');
        await yields.yield(lease, ended.forMs).catch(() => {});
      }
      await lease.release();
      running.delete(shareKey(lease));
      deps.metrics.leaseChanges.inc({ group, event: ended.kind === 'lost' ? 'lost' : 'released' });
      logger.debug({ group, partition, ended: ended.kind }, 'lease ended');
      hints.publish('leases', shareKey(lease));
    });
    running.set(shareKey(lease), { lease, runner, over });
  }

  const unhint = [
    hints.on('members', () => plan(GATHER_HINTS_MS)),
    hints.on('leases', () => plan(GATHER_HINTS_MS)),
  ];
  tick();

  return {
    ready: () => firstLook.promise,
    held: () => [...running.values()].map(({ lease: { group, partition } }) => ({ group, partition })),
    async stop() {
      stopping = true;
      clearTimeout(timer);
      for (const end of unhint) end();
      // Before anything is given back, so that the others know by the time that the first lease is free.
      const left = membership
        .leave()
        .catch((err: unknown) => logger.warn({ err }, 'could not leave the members'));
      // Without waiting for it: nothing more is taken from now on, whatever Redis and Postgres do.
      for (const { runner } of running.values()) runner.stop();
      await Promise.all([left, looking]);
      await Promise.all([...running.values()].map(({ over }) => over));
    },
  };
}
