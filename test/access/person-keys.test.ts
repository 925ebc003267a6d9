import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import {
  createPersonKey,
  deletePersonKey,
  masterKeys,
  PersonKeyMissingError,
} from '../../src/access/people.ts';
import { createPersonKeys, KEY_MS } from '../../src/access/person-keys.ts';
import type { PeopleTables } from '../../src/access/tables.ts';
import { type AccountId, streamId } from '../../src/domain/ids.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createWorld, type World } from '../support/world.ts';

const master = masterKeys([randomBytes(32)]);
const account = (name: string): AccountId => streamId('acc', 0, name.padEnd(20, '0'));
let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

test('a key that was deleted is gone from every process two seconds later', async () => {
  const ada = account('ada');
  let now = 0;
  const keys = createPersonKeys(world.db, master, { now: () => now });
  await createPersonKey(world.db, master, ada);
  expect(keys.ready(ada)).toBeUndefined();
  const key = await keys.load(ada);
  await deletePersonKey(world.db, ada);
  now = KEY_MS - 1;
  expect(keys.ready(ada)).toBe(key);
  now = KEY_MS;
  expect(keys.ready(ada)).toBeUndefined();
  await expect(keys.load(ada)).rejects.toThrow(PersonKeyMissingError);
});

test('keys that are asked for at once are found by one query, each by who asked for it', async () => {
  const people = ['a', 'b', 'c'].map(account);
  await Promise.all(people.map((id) => createPersonKey(world.db, master, id)));
  const asked: string[] = [];
  const db = openDatabase<PeopleTables>({ url: world.databaseUrl, max: 1, applicationName: 'keys' });
  const logged = db.withPlugin({
    transformQuery: ({ node }) => {
      asked.push(node.kind);
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  const keys = createPersonKeys(logged, master);
  const loaded = await Promise.all(
    [...people, ...people, account('nobody')].map((id) => keys.load(id).catch((e: Error) => e.name)),
  );
  expect(loaded.map((each) => (typeof each === 'string' ? each : each.accountId))).toEqual([
    ...people,
    ...people,
    'PersonKeyMissingError',
  ]);
  expect(asked).toHaveLength(1);
  await db.destroy();
});

test('how old a key is is counted from when it was asked for: the answer says what was there then', async () => {
  const slow = account('slow');
  await createPersonKey(world.db, master, slow);
  let now = 0;
  const slowly = world.db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      now += KEY_MS;
      return result;
    },
  });
  const keys = createPersonKeys(slowly, master, { now: () => now });
  await keys.load(slow);
  expect(keys.ready(slow)).toBeUndefined();
});

test('a wall clock that is set back lets no key live on', async () => {
  const tick = account('tick');
  await createPersonKey(world.db, master, tick);
  const keys = createPersonKeys(world.db, master);
  const began = performance.now();
  await keys.load(tick);
  const wall = vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 3_600_000);
  const steady = vi.spyOn(performance, 'now').mockReturnValue(began + KEY_MS + 60_000);
  onTestFinished(() => {
    wall.mockRestore();
    steady.mockRestore();
  });
  expect(keys.ready(tick)).toBeUndefined();
});

test('a row that was damaged is a fault of its own: who is asked for with it gets the key, and nobody an old one', async () => {
  const [well, damaged] = [account('well'), account('damaged')];
  let now = 0;
  const keys = createPersonKeys(world.db, master, { now: () => now, stands: async () => true });
  await Promise.all([well, damaged].map((id) => createPersonKey(world.db, master, id)));
  await Promise.all([well, damaged].map((id) => keys.load(id)));
  await world.db
    .updateTable('person_keys')
    .set({ wrapped_key: randomBytes(60) })
    .where('account_id', '=', damaged)
    .execute();
  now = KEY_MS;
  const [one, other] = await Promise.allSettled([keys.load(well), keys.load(damaged)]);
  expect(one).toMatchObject({ status: 'fulfilled', value: { accountId: well } });
  expect(other).toMatchObject({
    reason: { name: 'UnsealError', message: expect.stringContaining(damaged) },
  });
});

test('while Postgres is away what was known goes on, of whoever is known not to be erased', async () => {
  const [eve, fay, gil] = [account('eve'), account('fay'), account('gil')];
  await Promise.all([eve, fay, gil].map((id) => createPersonKey(world.db, master, id)));
  const db = openDatabase<PeopleTables>({ url: world.databaseUrl, max: 1, applicationName: 'keys' });
  let now = 0;
  const stands = async (id: string) => {
    if (id === gil) throw new Error('it is not known');
    return id !== fay;
  };
  const keys = createPersonKeys(db, master, { now: () => now, stands });
  const key = await keys.load(eve);
  await Promise.all([keys.load(fay), keys.load(gil)]);
  await db.destroy();
  now = 60_000;
  expect(await keys.load(eve)).toBe(key);
  // It may be this process alone that Postgres is away for: another one has deleted the key.
  await expect(keys.load(fay)).rejects.toThrow();
  await expect(keys.load(gil)).rejects.toThrow();
  now = 3_600_000;
  await expect(keys.load(eve)).rejects.toThrow();
});
