import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, gunzipSync } from 'node:zlib';
import { Redis } from 'ioredis';
import { sql } from 'kysely';
import type { World } from './world.ts';

/** Everything that an installation keeps, as text: where it lies → what is there. */
export type Dump = ReadonlyMap<string, string>;

/** Redis' keys with their names, every row of every table, and every file, those that are packed unpacked, also half written ones. */
export async function dumpAll(world: World, blobDir: string): Promise<Dump> {
  return new Map([
    ...(await dumpRedis(world)),
    ...(await dumpPostgres(world)),
    ...(await dumpFiles(blobDir)),
  ]);
}

async function dumpRedis({ redisUrl, prefix }: World): Promise<[string, string][]> {
  const redis = new Redis(redisUrl);
  const found: [string, string][] = [];
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1000 })) {
    for (const key of keys as string[]) {
      const type = await redis.type(key);
      const value = await READ[type]?.(redis, key);
      if (value === undefined && type !== 'none') throw new Error(`${key} is a ${type}, which nobody dumps`);
      found.push([`redis ${key}`, `${key}\n${JSON.stringify(value)}`]);
    }
  }
  redis.disconnect();
  return found;
}

const READ: Readonly<Record<string, (redis: Redis, key: string) => Promise<unknown>>> = {
  string: (redis, key) => redis.get(key),
  hash: (redis, key) => redis.hgetall(key),
  list: (redis, key) => redis.lrange(key, 0, -1),
  set: (redis, key) => redis.smembers(key),
  zset: (redis, key) => redis.zrange(key, 0, '-1', 'WITHSCORES'),
  stream: (redis, key) => redis.xrange(key, '-', '+'),
};

async function dumpPostgres({ db }: World): Promise<[string, string][]> {
  const tables = await sql<{ name: string }>`
    SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'm')`.execute(db);
  const found: [string, string][] = [];
  for (const { name } of tables.rows) {
    const rows = await sql<{ row: string }>`SELECT t::text AS row FROM ${sql.table(name)} AS t`.execute(db);
    found.push([`postgres ${name}`, rows.rows.map(({ row }) => row).join('\n')]);
  }
  // What its planner has sampled of them.
  await sql`ANALYZE`.execute(db);
  const samples = await sql<{ row: string }>`
    SELECT s::text AS row FROM pg_stats AS s WHERE schemaname = 'public'`.execute(db);
  found.push(['postgres pg_stats', samples.rows.map(({ row }) => row).join('\n')]);
  return found;
}

async function dumpFiles(dir: string): Promise<[string, string][]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const found: [string, string][] = [];
  for (const entry of entries.filter((each) => each.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const bytes = await readFile(path);
    const plain =
      bytes[0] === 0x1f && bytes[1] === 0x8b
        ? gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH })
        : bytes;
    found.push([`file ${path}`, `${path}\n${plain.toString('latin1')}`]);
  }
  return found;
}

/** Where any of the texts stand, as they are, or as hex or base64, at whatever place within it. */
export function grep(dump: Dump, needles: readonly string[]): string[] {
  const forms = needles.flatMap((needle) => formsOf(needle).map((form) => [needle, form] as const));
  return [...dump].flatMap(([place, text]) => {
    const lower = text.toLowerCase();
    return forms
      .filter(([, { text: form, anyCase }]) => (anyCase ? lower : text).includes(form))
      .map(([needle]) => `${needle} in ${place}`);
  });
}

function formsOf(needle: string): { text: string; anyCase: boolean }[] {
  const bytes = Buffer.from(needle);
  const bases = [0, 1, 2].flatMap((offset) => {
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes]);
    // Without what the bytes before and after it have a part in.
    const from = offset === 0 ? 0 : offset + 1;
    const to = Math.floor((shifted.length * 8) / 6);
    return [shifted.toString('base64').slice(from, to), shifted.toString('base64url').slice(from, to)];
  });
  return [
    { text: needle.toLowerCase(), anyCase: true },
    { text: bytes.toString('hex'), anyCase: true },
    ...bases.map((text) => ({ text, anyCase: false })),
  ];
}
