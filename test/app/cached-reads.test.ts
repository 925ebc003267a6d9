import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createReadCache, forgetReads } from '../../src/access/read-cache.ts';
import { createCachedReads } from '../../src/app/cached-reads.ts';
import { type AccountId, streamId } from '../../src/domain/ids.ts';
import type { Position } from '../../src/domain/position.ts';
import type { FindOne } from '../../src/http/consistency.ts';
import { type AccountView, findAccount, projection } from '../../src/projections/accounts.ts';
import { groupOf } from '../../src/projections/projection.ts';
import { createReading, NOTHING_WANTED, type Wanted } from '../../src/projections/reading.ts';
import { createWorld, type World } from '../support/world.ts';

const PARTITION = 1;
const group = groupOf(projection);
const TTL_MS = 3_000;

let world: World;
let redis: Redis;
let id: AccountId;
let seq = 0;
let cached: FindOne<AccountView>;
let looks: string[] = [];
let queries = 0;
/** What comes between a query and its answer. */
let meanwhile: () => Promise<void>;

beforeAll(async () => {
  world = await createWorld();
  redis = new Redis(world.redisUrl);
  await world.db
    .insertInto('epochs')
    .values({ partition: PARTITION, epoch: 1, first_seq: 1, run_id: 'r' })
    .execute();
  await world.db
    .insertInto('checkpoints')
    .values({ group_name: group, partition: PARTITION, epoch: 1 })
    .execute();
  const waitFor = async () => 'reached' as const;
  cached = createCachedReads({
    cache: createReadCache(redis, world.prefix, TTL_MS),
    reading: createReading({ db: world.db, waitFor, alsoElsewhere: true }),
    onLook: (_, outcome) => looks.push(outcome),
  })({
    projection,
    async find(db, wanted) {
      queries += 1;
      const found = await findAccount(db, wanted);
      await meanwhile();
      return found;
    },
    keeps: () => true,
  });
});
afterAll(async () => {
  redis.disconnect();
  await world.dispose();
});
beforeEach(async () => {
  meanwhile = async () => {};
  id = streamId('acc', PARTITION, Math.random().toString(36).slice(2).padEnd(20, '0'));
  await world.db
    .insertInto('accounts_v1')
    .values({ id, email: '' as never, name: '' as never, role: 'user', version: 0, created_at: new Date() })
    .execute();
  await advance();
  [looks, queries] = [[], 0];
});

/** What a projector does, but for telling the cache. */
async function advance(): Promise<void> {
  seq += 1;
  await world.db.transaction().execute(async (trx) => {
    await trx.updateTable('accounts_v1').set({ version: seq }).where('id', '=', id).execute();
    await trx
      .updateTable('checkpoints')
      .set({ seq, event_id: `e${seq}` })
      .execute();
  });
}
const tell = () => forgetReads(redis, world.prefix, [`${group}:${id}`]);
const at = (position: Partial<Position>): Wanted => ({
  ...NOTHING_WANTED,
  positions: [{ partition: PARTITION, epoch: 1, seq, ...position }],
});
const version = async (wanted: Wanted = NOTHING_WANTED) => (await cached(id, undefined, wanted))?.version;
/** What is asked for twice is kept, soon after the answer. */
const keep = async () => {
  await version();
  await version();
  await isKept();
};
const isKept = () =>
  vi.waitFor(
    async () => expect(await redis.get(`${world.prefix}:read:${group}:${id}`)).toMatch(/^1 /),
    10_000,
  );

test('what was read is answered from the cache, and its change takes it away', async () => {
  expect([await version(), await version()]).toEqual([seq, seq]);
  await isKept();
  expect([await version(), await version(at({}))]).toEqual([seq, seq]);
  expect(queries).toBe(2);
  await advance();
  await tell();
  expect(await version()).toBe(seq);
  expect(looks).toEqual(['miss', 'miss', 'hit', 'hit', 'miss']);
});

test('what is older than the caller’s position is never served, also where nobody told the cache of the change', async () => {
  await keep();
  await advance();
  expect(await version(at({}))).toBe(seq);
  expect(looks.at(-1)).toBe('older');
  // Who brings no position may be shown what is as old as that, and no longer than entries are kept.
  expect(await version()).toBe(seq - 1);
  await vi.waitFor(async () => expect(await version()).toBe(seq), 2 * TTL_MS);
});

test('an answer says how far it is, so that what was shown does not go back', async () => {
  await keep();
  await advance();
  const told: (readonly Position[])[] = [];
  expect(await version({ ...at({}), onAnswer: (answer) => told.push(answer) })).toBe(seq);
  expect(await version({ ...NOTHING_WANTED, positions: told.flat() })).toBe(seq);
});

test('positions of another epoch or partition are for Postgres to judge', async () => {
  await keep();
  await expect(version(at({ epoch: 2 }))).rejects.toThrow('behind');
  await expect(version(at({ partition: 2 }))).rejects.toThrow('behind');
  expect(looks).toEqual(['miss', 'miss', 'older', 'older']);
});

test('what changed while it was read is not kept', async () => {
  await version();
  meanwhile = async () => {
    meanwhile = async () => {};
    await advance();
    await tell();
  };
  expect(await version()).toBe(seq - 1);
  expect(await version()).toBe(seq);
  expect(looks).toEqual(['miss', 'miss', 'miss']);
});

test('a hundred who ask at once are one query', async () => {
  const found = await Promise.all(Array.from({ length: 100 }, () => version()));
  expect(new Set(found)).toEqual(new Set([seq]));
  expect(queries).toBe(1);
});

test('nothing is kept of a partition of which an event is parked, nor for another asker', async () => {
  const parked = { group_name: group, partition: PARTITION, seq: 1, epoch: 1, row_key: 'k', error: 'e' };
  await world.db.insertInto('parked_events').values(parked).execute();
  await version();
  await version();
  await world.db.deleteFrom('parked_events').execute();
  await vi.waitFor(
    async () => expect(await redis.exists(`${world.prefix}:read:${group}:${id}`)).toBe(0),
    10_000,
  );
  await keep();
  await cached(id, 'somebody else', NOTHING_WANTED);
  expect(looks).toEqual(['miss', 'miss', 'miss', 'miss', 'older']);
});
