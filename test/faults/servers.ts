import { mkdtemp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removePostgres, startPostgres, startRedis } from '../../deploy/local/servers.mjs';
import { lastingPort } from './ports.ts';

export type Fsync = 'always' | 'everysec';

type Running = { readonly url: string; readonly port: number };

/** A server that faults may end; it comes back on its port, with the data that it left. */
export type Server = Running & {
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
};

export type Servers = {
  readonly redis: Server & {
    /** Takes away the end of the append-only file, as a machine does that loses power before its fsync. */
    loseTail(bytes: number): Promise<void>;
    /** How long the append-only file is now. */
    written(): Promise<number>;
  };
  readonly postgres: Server;
  /** For what handlers say, out of reach of all faults. */
  readonly effects: Running;
  /** A folder that is gone afterwards. */
  readonly dir: string;
  close(): Promise<void>;
};

/** Redis with an append-only file, Postgres, and a second Redis for what handlers say: all of our own. */
export async function startServers(fsync: Fsync): Promise<Servers> {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-faults-'));
  const undo: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true })];
  const close = async () => {
    for (const step of undo.reverse()) await step();
  };
  try {
    const home = join(dir, 'redis');
    const redis = await server((port) => startRedis({ dir: home, appendfsync: fsync, port }));
    undo.push(redis.close);
    const aof = async () => {
      const folder = join(home, 'appendonlydir');
      const newest = (await readdir(folder))
        .filter((name) => name.endsWith('.incr.aof'))
        .sort()
        .at(-1);
      if (newest === undefined) throw new Error('Redis has no append-only file');
      return join(folder, newest);
    };

    const data = join(dir, 'postgres');
    undo.push(() => removePostgres(data));
    // A killed process loses nothing that it gave the system to write: fsync is for a machine that fails.
    const extra = ['fsync=off', 'full_page_writes=off'];
    const postgres = await server((port) => startPostgres({ dir: data, extra, port }));
    undo.push(postgres.close);

    const effects = await startRedis({ dir: join(dir, 'effects'), appendonly: 'no' });
    undo.push(effects.stop);
    return {
      redis: {
        ...redis.server,
        async loseTail(bytes) {
          const file = await aof();
          await truncate(file, Math.max(0, (await stat(file)).size - bytes));
        },
        written: async () => (await stat(await aof())).size,
      },
      postgres: postgres.server,
      effects,
      dir,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function server(
  begin: (port: number) => Promise<Running & { pid: number; stop(): Promise<void>; kill(): Promise<void> }>,
): Promise<{ server: Server; close: () => Promise<void> }> {
  const port = await lastingPort();
  let current = await begin(port);
  const { url } = current;
  return {
    server: {
      url,
      port,
      stop: () => current.stop(),
      kill: () => current.kill(),
      async start() {
        current = await begin(port);
      },
      signal: (signal) => void process.kill(current.pid, signal),
    },
    close: () => current.stop(),
  };
}
