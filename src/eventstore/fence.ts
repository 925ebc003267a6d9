import type { Kysely } from 'kysely';
import { ledgerHeads } from './checkpoints.ts';
import type { Connection } from './connections.ts';
import { type Installation, openEpochs, readInstallation } from './installation.ts';
import { isSomethingLost } from './losses.ts';
import { type Meta, readMetas } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import { brokenMeta, reconcile } from './reconcile.ts';
import type { LedgerTables } from './tables.ts';
import type { Told } from './told.ts';

/** What a commit must name, or the partition refuses it. */
export type Trusted = {
  readonly storeId: string;
  readonly epoch: number;
  readonly recovery: number;
  /** Of the server that it is trusted at. */
  readonly runId: string;
};

/** Knows whether Redis and the ledger agree; where they may not, nothing is trusted and commits stop. */
export type Fence = {
  /** Undefined: commits to this partition are stopped. */
  trusted(partition: number): Trusted | undefined;
  /** Why commits are stopped, for operators; undefined: they are not. */
  reason(): string | undefined;
  /** Looks again, and reconciles where Redis is another server than before. Never throws. */
  refresh(): Promise<void>;
  close(): void;
};

export type FenceOptions = {
  /** A writer: the run ids that it learns are what is compared. */
  readonly connection: Connection;
  readonly db: Kysely<LedgerTables>;
  readonly prefix: string;
  readonly keys: readonly PartitionKeys[];
  /** How far this process knows the log to go. */
  readonly told: Told;
  /** How often every process looks by itself, to see what others adopted or lost. Default 1,000. */
  readonly intervalMs?: number | undefined;
};

/** A comparison that failed is not made again for so long: it holds a lock and raises tokens. */
const COMPARE_AGAIN_MS = 3_000;

/** Closed until the first `refresh` has found all well. */
export function createFence({ connection, db, prefix, keys, told, intervalMs = 1_000 }: FenceOptions): Fence {
  let open: readonly Trusted[] = [];
  let why: string | undefined = 'Redis has not been compared with the ledger yet';
  let installation: Installation | undefined;
  /** The server that this process has found to agree with the ledger. */
  let agreed: string | undefined;
  let compareAfter = 0;
  let looking: Promise<void> | undefined;
  let asking = false;
  /** Postgres seems to have been set back: it is compared once more, and commits go on unless something is missing. */
  let suspected = false;
  /** How far the ledger was when this process looked last. */
  let heads: ReadonlyMap<number, number> = new Map();

  const shut = (reason: string) => {
    open = [];
    why = reason;
    installation = undefined;
  };

  async function look(): Promise<void> {
    const runId = connection.runId();
    if (runId === undefined) return;
    try {
      installation ??= await readInstallation(db);
      let metas = await readMetas(connection.redis, keys);
      if (installation && brokenMeta(metas, installation) !== undefined) agreed = undefined;
      if (agreed !== runId || suspected || metas.some((meta) => meta?.run !== runId)) {
        if (performance.now() < compareAfter) return;
        if (why === undefined && !suspected)
          shut('Redis was restarted or replaced, and is being compared with the ledger');
        const problem = await reconcile(db, connection, prefix, keys, runId, told);
        if (problem !== undefined) {
          compareAfter = performance.now() + COMPARE_AGAIN_MS;
          shut(problem);
          return;
        }
        agreed = runId;
        suspected = false;
        compareAfter = 0;
        metas = await readMetas(connection.redis, keys);
      }
      const found = metas.filter((meta): meta is Meta => meta?.run === runId);
      if (found.length < keys.length)
        return shut('Redis was replaced while it was being compared with the ledger');
      open = found.map(({ store, epoch, recovery }) => ({ storeId: store, epoch, recovery, runId }));
      told.settle(found.map(({ epoch }) => epoch));
      why = undefined;
    } catch (error) {
      // Nothing is known anew. What was trusted stays so: the commit itself compares once more.
      if (agreed !== runId) {
        const said = error instanceof Error ? error.message : String(error);
        shut(`Redis can't be compared with the ledger yet, so commits are stopped: ${said}`);
      }
    }
  }

  /**
   * Whether Postgres still names this server, nobody has found since that it lost something, and Postgres itself was not set
   * back: who goes on speaking to one that was replaced hears of it nowhere else. With Postgres away nothing changes.
   */
  async function lookWhoIsTrusted(): Promise<void> {
    const server = agreed;
    if (server === undefined) return;
    const [epochs, lost, now] = await Promise.all([openEpochs(db), isSomethingLost(db), ledgerHeads(db)]);
    const wentBack = [...heads].some(([partition, seq]) => (now.get(partition) ?? 0) < seq);
    heads = now;
    if (agreed !== server) return;
    const same = ({ epoch }: Trusted, partition: number) =>
      epochs.get(partition)?.epoch === epoch && epochs.get(partition)?.runId === server;
    if (!lost && !wentBack && open.every(same)) return;
    if (wentBack) suspected = true;
    else agreed = undefined;
    await refresh();
  }

  const refresh = () => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  };

  connection.onReady((runId) => {
    if (agreed !== undefined && agreed !== runId) {
      compareAfter = 0;
      shut('Redis was restarted or replaced, and is being compared with the ledger');
    }
    void refresh();
  });
  const timer = setInterval(() => {
    void refresh();
    if (asking) return;
    asking = true;
    // Beside it, as commits that ask for a new look must not wait for Postgres.
    lookWhoIsTrusted()
      .catch(() => {})
      .finally(() => {
        asking = false;
      });
  }, intervalMs);
  timer.unref();

  return {
    trusted: (partition) => open[partition],
    reason: () => (connection.runId() === undefined ? 'Redis is not reachable' : why),
    refresh,
    close: () => clearInterval(timer),
  };
}
