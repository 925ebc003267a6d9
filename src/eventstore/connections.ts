import { createHash } from 'node:crypto';
import { Command, Redis, type RedisOptions } from 'ioredis';
import { gatherWrites } from './gather-writes.ts';
import { StoreUnavailableError } from './types.ts';

/** A Lua script and the SHA-1 that Redis knows it by. */
export type Script = { readonly body: string; readonly sha: string };

export function script(body: string): Script {
  return { body, sha: createHash('sha1').update(body).digest('hex') };
}

/** A client that knows which server it speaks to. */
export type Connection = {
  readonly redis: Redis;
  /**
   * Run id of the server at the other end of this very connection. Undefined while it is down, or new and
   * not yet asked: then nothing may be written, as the server may be another one than before.
   */
  runId(): string | undefined;
  /** Resolves with the run id, at once when it is known. Throws `StoreUnavailableError` after `timeoutMs`. */
  whenReady(timeoutMs: number): Promise<string>;
  /** Calls back each time the server at the other end is known anew: after every connect. */
  onReady(listener: (runId: string) => void): void;
  /** Connects anew, where the name leads to now: what has no reply yet is rejected. */
  reconnect(): void;
  /** Ends the connection; what has no reply yet is rejected. */
  close(): void;
};

export type ConnectionOptions = {
  readonly url: string;
  /** Shown by CLIENT LIST. */
  readonly name: string;
  /** Loaded before the connection counts as ready: NOSCRIPT inside a pipeline would reorder it. */
  readonly scripts?: readonly Script[];
  /** A silent server is given up after this. Default: 2,000 ms for a writer, 5,000 for a reader. */
  readonly replyWithinMs?: number;
  readonly onError?: (error: Error) => void;
};

type Settings = Omit<RedisOptions, 'replyMapping'>;

const common = (options: ConnectionOptions): Settings => ({
  connectionName: options.name,
  connectTimeout: 3_000,
  keepAlive: 5_000,
  retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), 1_000) * (0.5 + Math.random() / 2),
  // A failed-over master says READONLY: come back through whatever names the new one.
  reconnectOnError: (error) => error.message.startsWith('READONLY'),
});

/** What is not safe to send twice: ioredis' defaults re-send on a dropped reply, and store twice. */
const neverTwice: Settings = {
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: false,
};

/**
 * A server that is silent for so long is taken for gone, and its socket destroyed: `disconnect()` would only
 * half-close it and wait for an answer that a half-open connection never gives. The timeout of a single command
 * is the backstop, for the one that gets no reply while others do.
 */
function timeouts(ms: number): Settings {
  return { socketTimeout: ms, commandTimeout: ms + 500 };
}

/**
 * For scripts and writes. A command is refused at once while the connection is down, and is never sent twice:
 * who lost a reply asks again under the same number or claim.
 */
export function connectWriter(options: ConnectionOptions): Connection {
  return connect(options, { ...neverTwice, ...timeouts(options.replyWithinMs ?? 2_000) });
}

/** For reads. Fails at once while the connection is down, so that a query is refused rather than queued. */
export function connectReader(options: ConnectionOptions): Connection {
  const connection = connect(options, { ...neverTwice, ...timeouts(options.replyWithinMs ?? 5_000) });
  gatherWrites(connection.redis);
  return connection;
}

/**
 * For one reader that blocks, and nothing else beside it. Every BLOCK must be finite and shorter than
 * `blockMs`: a connection that is silent for longer is taken for dead and replaced. (ioredis' own
 * `blockingTimeout` gives up while the server still blocks, and the entry is then lost from sight.)
 */
export function connectBlocking(options: ConnectionOptions & { readonly blockMs: number }): Connection {
  return connect(options, { ...neverTwice, socketTimeout: options.blockMs + 2_000 });
}

/** For pub/sub: subscribes again by itself after a reconnect. What was published meanwhile is lost. */
export function connectSubscriber(options: Omit<ConnectionOptions, 'scripts'>): Redis {
  const redis = new Redis(options.url, { ...common(options), maxRetriesPerRequest: null });
  redis.on('error', options.onError ?? (() => {}));
  return redis;
}

function connect(options: ConnectionOptions, settings: Settings): Connection {
  const redis = new Redis(options.url, { ...common(options), ...settings });
  let runId: string | undefined;
  let connects = 0;
  const waiting = new Set<(runId: string) => void>();
  const listeners: ((runId: string) => void)[] = [];

  let trouble: Error | undefined;
  redis.on('error', (error) => {
    trouble = error;
    options.onError?.(error);
  });
  redis.on('close', () => {
    runId = undefined;
    connects++;
  });
  redis.on('ready', () => {
    const connection = connects;
    learn(redis, options.scripts ?? []).then(
      (learnt) => {
        if (connection !== connects) return; // the answer of a connection that is gone
        runId = learnt;
        for (const resolve of waiting) resolve(learnt);
        waiting.clear();
        for (const listener of listeners) listener(learnt);
      },
      (error: unknown) => {
        if (connection !== connects) return;
        trouble = error instanceof Error ? error : new Error(String(error));
        options.onError?.(trouble);
        redis.disconnect(true); // not usable as it is: begin again
      },
    );
  });

  return {
    redis,
    runId: () => (redis.status === 'ready' ? runId : undefined),
    whenReady(timeoutMs) {
      if (runId !== undefined && redis.status === 'ready') return Promise.resolve(runId);
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(done);
          reject(new StoreUnavailableError(silence(redis, timeoutMs, trouble), { cause: trouble }));
        }, timeoutMs);
        const done = (learnt: string) => {
          clearTimeout(timer);
          resolve(learnt);
        };
        waiting.add(done);
      });
    },
    onReady: (listener) => void listeners.push(listener),
    reconnect: () => redis.disconnect(true),
    close: () => redis.disconnect(),
  };
}

/** Which server, for how long, and what was last heard of it; no credentials. */
function silence({ options }: Redis, timeoutMs: number, trouble: Error | undefined): string {
  const at = options.path ?? `${options.host}:${options.port}`;
  return `Redis at ${at} does not answer within ${timeoutMs} ms${trouble ? `: ${trouble.message}` : ''}`;
}

async function learn(redis: Redis, scripts: readonly Script[]): Promise<string> {
  const [info] = await Promise.all([
    redis.info('server'),
    ...scripts.map((each) => redis.script('LOAD', each.body)),
  ]);
  const runId = /^run_id:(\w+)/m.exec(info)?.[1];
  if (runId === undefined) throw new Error('Redis does not tell its run id (INFO server)');
  await checkDatabase(redis);
  return runId;
}

/** The client goes on in database 0 where the server has not the one that it was told to use. */
async function checkDatabase(redis: Redis): Promise<void> {
  const { db } = redis.options;
  if (!db) return;
  const its = / db=(\d+) /.exec(String(await redis.client('INFO')))?.[1];
  if (its !== String(db)) throw new Error(`REDIS_URL names database ${db}, which this Redis does not have`);
}

/**
 * Runs a script that is loaded on connect; loads it again where the server lost it (SCRIPT FLUSH), which is
 * safe as it has not run then. The reply is as Redis gave it, strings as UTF-8.
 */
export async function runScript(
  redis: Redis,
  { sha, body }: Script,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  const call = () =>
    redis.sendCommand(
      new Command('evalsha', [sha, keys.length, ...keys, ...args], { replyEncoding: 'utf8' }),
    );
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    await redis.script('LOAD', body);
    return call();
  }
}
