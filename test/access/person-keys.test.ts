import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
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
  const keys = createPersonKeys(world.db, master, () => now);
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

test('while Postgres is away what was known goes on: nobody can delete a key there either', async () => {
  const eve = account('eve');
  await createPersonKey(world.db, master, eve);
  const db = openDatabase<PeopleTables>({ url: world.databaseUrl, max: 1, applicationName: 'keys' });
  let now = 0;
  const keys = createPersonKeys(db, master, () => now);
  const key = await keys.load(eve);
  await db.destroy();
  now = 60_000;
  expect(await keys.load(eve)).toBe(key);
  now = 3_600_000;
  await expect(keys.load(eve)).rejects.toThrow();
});
