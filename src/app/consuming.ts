import { startLeaseKeeper } from '../consumers/lease-keeper.ts';
import type { Connections, RunningRole } from '../consumers/role.ts';
import { connectBlocking, connectSubscriber } from '../eventstore/connections.ts';
import { allOf, type Base, type Parts, type Role, readinessOf } from './base.ts';

/** What a role that consumes is given: connections are made here, and nowhere in the role. */
export function roleDeps({ config, metrics, logger }: Base, { db, store }: Parts, role: string) {
  const { REDIS_URL: url, INSTANCE_ID: instanceId, KEY_PREFIX: prefix } = config;
  const onError = (err: Error) => logger.debug({ err }, 'a connection to Redis broke');
  const connections: Connections = {
    blocking: (name, blockMs) => connectBlocking({ url, name, blockMs, onError }),
    subscriber: (name) => connectSubscriber({ url, name, onError }),
    leaseKeeper: () =>
      startLeaseKeeper({
        redisUrl: url,
        log: { level: config.LOG_LEVEL, role, instanceId },
        onDeath(err) {
          logger.fatal({ err }, 'leases are not renewed any more: the process ends');
          process.exit(1);
        },
      }),
  };
  return { instanceId, prefix, store, db, connections, metrics, logger };
}

/** A consuming role as `main.ts` knows it: ready once it has taken what it should own. */
export function roleOf(
  name: string,
  running: RunningRole,
  parts: Pick<Parts, 'db' | 'store'>,
  close: () => Promise<void>,
): Role {
  let started = false;
  running.ready().then(
    () => {
      started = true;
    },
    () => {
      // It was stopped before it had taken anything.
    },
  );
  return {
    name,
    async ready() {
      const { checks } = await readinessOf(parts);
      const partitions = { ok: started, detail: started ? `${running.held().length} held` : 'not taken yet' };
      return allOf({ ...checks, partitions });
    },
    async stop() {
      await running.stop();
      await close();
    },
  };
}
