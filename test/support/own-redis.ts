import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { onTestFinished } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';

export type OwnRedis = {
  readonly url: string;
  /** Stops it in order, with all data saved. */
  stop(): Promise<void>;
  /** SIGKILL: what was not yet written is gone. */
  kill(): Promise<void>;
  /** Starts it again on its port, with the data it left. */
  start(): Promise<void>;
  /** Stops it where it stands, connections open, until `resume`. */
  pause(): void;
  resume(): void;
  /** Sends one command. */
  command(name: string, ...args: string[]): Promise<void>;
  /** Copies its append-only file; call while it is idle. */
  saveAof(name: string): Promise<void>;
  /** Puts a copy in its place; call while it is stopped. */
  restoreAof(name: string): Promise<void>;
};

/** A Redis of the test's own, to be stopped, killed and flushed. Every write is on disk before it is answered. */
export async function ownRedis(extra: readonly string[] = []): Promise<OwnRedis> {
  const root = await mkdtemp(join(tmpdir(), 'millrace-redis-'));
  const dir = join(root, 'data');
  const aof = join(dir, 'appendonlydir');
  const options = { dir, appendfsync: 'always', extra } as const;
  let server = await startRedis(options);
  const { port, url } = server;
  onTestFinished(async () => {
    await server.kill();
    await rm(root, { recursive: true, force: true });
  });
  return {
    url,
    stop: () => server.stop(),
    kill: () => server.kill(),
    async start() {
      server = await startRedis({ ...options, port });
    },
    pause: () => void process.kill(server.pid, 'SIGSTOP'),
    resume: () => void process.kill(server.pid, 'SIGCONT'),
    async command(name, ...args) {
      const redis = new Redis(url);
      await redis.call(name, ...args).finally(() => redis.disconnect());
    },
    saveAof: (name) => cp(aof, join(root, name), { recursive: true }),
    async restoreAof(name) {
      await rm(aof, { recursive: true });
      await cp(join(root, name), aof, { recursive: true });
    },
  };
}
