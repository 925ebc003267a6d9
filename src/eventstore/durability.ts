import type { Position } from '../domain/position.ts';
import { LEDGER_GROUP } from './checkpoints.ts';
import type { Connection } from './connections.ts';
import type { Fence } from './fence.ts';
import type { CheckpointWaits } from './waits.ts';

/**
 * How much an answered command survives. `memory`: what Redis is configured for. `replicated`: replicas have it,
 * which bounds loss in a failover and does not exclude it. `ledger`: it is in Postgres, committed.
 */
export type Durability = 'memory' | 'replicated' | 'ledger';

export type DurabilityWaits = {
  /** Waits until the event at `position` is as durable as asked. False: not in time; it stands all the same. */
  awaitDurability(position: Position, durability: Durability): Promise<boolean>;
};

/**
 * @param connection a writer of its own: WAIT blocks what comes after it. Its reply time must exceed `timeoutMs`
 * @param trusted of the fence: replicas of another server than the one that committed have nothing to say
 * @param replicas how many must have it
 */
export function createDurability({
  connection,
  waits,
  trusted,
  replicas = 1,
  timeoutMs = 5_000,
}: {
  readonly connection: Connection;
  readonly waits: CheckpointWaits;
  readonly trusted: Fence['trusted'];
  readonly replicas?: number;
  readonly timeoutMs?: number;
}): DurabilityWaits {
  let gathering: Promise<number> | undefined;
  let running: Promise<number> = Promise.resolve(0);

  /** One WAIT at a time: what comes while it runs shares the next, which covers it all. */
  function replicated(): Promise<number> {
    gathering ??= running
      .catch(() => {})
      .then(() => {
        gathering = undefined;
        running = waitForReplicas(connection, replicas, timeoutMs);
        return running;
      });
    return gathering;
  }

  const inLedger = async (position: Position) =>
    (await waits.waitFor({ group: LEDGER_GROUP, position, timeoutMs })) === 'reached';

  /** After a failover the new master's replicas have what it has; only the ledger tells whether that includes this. */
  function isOurs({ partition, epoch }: Position): boolean {
    const now = trusted(partition);
    return now?.epoch === epoch && now.runId === connection.runId();
  }

  return {
    async awaitDurability(position, durability) {
      switch (durability) {
        case 'memory':
          return true;
        case 'ledger':
          return inLedger(position);
        case 'replicated': {
          const reached = await replicated().catch(() => 0);
          if (reached < replicas) return false;
          return isOurs(position) || inLedger(position);
        }
      }
    },
  };
}

/**
 * WAIT covers what its own connection has seen of the server's writes, up to its last command: hence the PING in
 * the same pipeline. (The WAIT of a fresh connection answered 1 with the replica stopped.)
 */
async function waitForReplicas({ redis }: Connection, replicas: number, timeoutMs: number): Promise<number> {
  const replies = await redis.pipeline().ping().call('WAIT', replicas, timeoutMs).exec();
  const [error, reached] = replies?.[1] ?? [new Error('Redis gave no answer')];
  if (error) throw error;
  return Number(reached);
}
