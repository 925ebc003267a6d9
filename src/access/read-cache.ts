import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** How far the read model was, in the partition that the entry follows from. */
export type Mark = { readonly epoch: number; readonly seq: number };

/** What was read, and as of when. */
export type Entry = { readonly mark: Mark; readonly text: string };

/**
 * What a look finds: an entry; a lease, for who is to read and keep it; `first`, where nobody asked for it lately; `busy`,
 * where another process reads it just now, or there is no room for it; `away`, where Redis does not answer.
 */
export type Look = Entry | { readonly lease: string } | 'first' | 'busy' | 'away';

export type ReadCache = {
  look(name: string): Promise<Look>;
  /** Keeps an entry, unless it was forgotten since the look; undefined: gives the lease back. Never throws. */
  keep(name: string, lease: string, entry: Entry | undefined): Promise<void>;
};

/** The part of a Redis client that is needed: one that fails at once while Redis is away. */
export type CacheClient = {
  call(command: string, ...args: (string | number)[]): Promise<unknown>;
};

/** For as long as one may take to read what is not there; another may begin after that. */
const LEASE_MS = 1_000;
/** What is larger is read from Postgres: a cache of few large entries is none. */
const MAX_LENGTH = 16_384;

const body = readFileSync(new URL('read_cache.lua', import.meta.url), 'utf8');
const sha = createHash('sha1').update(body).digest('hex');
const ASKED = '?';
const LEASE = /^!/;

/**
 * What was read from read models, for a short time, in Redis.
 *
 * The race of every cache, that somebody reads, then it changes and is forgotten, then what was read is kept, is closed by
 * leases: who is to read has one in the entry's place before he does; forgetting takes it away like an entry; and only who
 * finds his lease still there keeps what he read.
 *
 * Reading for the cache costs more than reading. So the first who asks only leaves a note of that, and what is not asked
 * for again within the time of an entry costs no more than that.
 *
 * @param ttlMs longest that an entry is there: no longer is what nobody forgot (its projector died) shown
 * @param hasRoom false: Redis is needed for other things, and nothing new is kept
 */
export function createReadCache(
  client: CacheClient,
  prefix: string,
  ttlMs: number,
  hasRoom: () => boolean = () => true,
): ReadCache {
  return {
    async look(name) {
      const key = keyOf(prefix, name);
      try {
        if (!hasRoom()) return entryOf(String(await client.call('GET', key))) ?? 'busy';
        const found = await client.call('SET', key, ASKED, 'NX', 'GET', 'PX', ttlMs);
        if (found === null) return 'first';
        if (found !== ASKED) return entryOf(String(found)) ?? 'busy';
        // Of two who come here at once, the last one has the lease.
        const lease = `!${randomBytes(9).toString('base64url')}`;
        const before = await client.call('SET', key, lease, 'XX', 'GET', 'PX', LEASE_MS);
        return before === null ? 'first' : { lease };
      } catch {
        return 'away';
      }
    },
    async keep(name, lease, entry) {
      const text = entry === undefined ? '' : `${entry.mark.epoch} ${entry.mark.seq} ${entry.text}`;
      const args = [1, keyOf(prefix, name), lease, text.length > MAX_LENGTH ? '' : text, ttlMs];
      try {
        await client.call('EVALSHA', sha, ...args).catch((error: unknown) => {
          if (!String(error).includes('NOSCRIPT')) throw error;
          return client.call('EVAL', body, ...args);
        });
      } catch {
        // Redis is away, or full: the next one reads it again.
      }
    },
  };
}

/** Takes entries away, and leases of who is reading them: what they are about has changed, and can be read. Never throws. */
export async function forgetReads(
  client: CacheClient,
  prefix: string,
  names: readonly string[],
): Promise<void> {
  if (names.length === 0) return;
  try {
    await client.call('UNLINK', ...names.map((name) => keyOf(prefix, name)));
  } catch {
    // It runs out by itself.
  }
}

/**
 * Takes away all entries whose names begin so (`''`: all there are), and the leases of who is reading them: what they were
 * read from is another now. Throws what the client throws; what is left then runs out by itself.
 */
export async function forgetAllReads(client: CacheClient, prefix: string, beginning: string): Promise<void> {
  const match = `${keyOf(prefix, beginning).replaceAll(/[[\]?*\\]/g, '\\$&')}*`;
  let cursor = '0';
  do {
    const found = await client.call('SCAN', cursor, 'MATCH', match, 'COUNT', 1_000);
    const [next, keys]: unknown[] = Array.isArray(found) ? found : [];
    if (Array.isArray(keys) && keys.length > 0) await client.call('UNLINK', ...keys.map(String));
    cursor = String(next ?? '0');
  } while (cursor !== '0');
}

function keyOf(prefix: string, name: string): string {
  return `${prefix}:read:${name}`;
}

/** `<epoch> <seq> <text>`; undefined: a lease. */
function entryOf(found: string): Entry | undefined {
  if (LEASE.test(found)) return undefined;
  const [, epoch, seq, text] = /^(\d+) (\d+) (.*)$/s.exec(found) ?? [];
  return text === undefined ? undefined : { mark: { epoch: Number(epoch), seq: Number(seq) }, text };
}
