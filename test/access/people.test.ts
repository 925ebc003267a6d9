import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { up as takeNoSamples } from '../../migrations/0021_statistics_of_secrets.ts';
import { createPasswords } from '../../src/access/passwords.ts';
import {
  createPeople,
  createPersonKey,
  deletePersonKey,
  findPersonKey,
  masterKeys,
  open,
  PersonKeyMissingError,
  seal,
  UnsealError,
} from '../../src/access/people.ts';
import { type AccountId, streamId } from '../../src/domain/ids.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createWorld, type World } from '../support/world.ts';

const master = masterKeys([randomBytes(32)]);
const ada: AccountId = streamId('acc', 0, 'ada0'.repeat(5));
const bob: AccountId = streamId('acc', 0, 'bob0'.repeat(5));
let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

test('what was sealed for a person opens again, and reads as nothing of it', async () => {
  const person = await createPersonKey(world.db, master, ada);
  const sealed = seal(person, 'Ada Lovelace');
  expect(sealed).toMatch(/^sealed:v1:[A-Za-z0-9_-]+$/);
  expect(open(await findPersonKey(world.db, master, ada), sealed)).toBe('Ada Lovelace');
  expect(seal(person, 'Ada Lovelace')).not.toBe(sealed);
});

test('a second try finds the first key, so that what was sealed before stays readable', async () => {
  const first = await createPersonKey(world.db, master, bob);
  const again = await createPersonKey(world.db, master, bob);
  expect(open(again, seal(first, 'Bob'))).toBe('Bob');
});

test("another person's text, and one that was changed, do not open", async () => {
  const [a, b] = await Promise.all([
    createPersonKey(world.db, master, ada),
    createPersonKey(world.db, master, bob),
  ]);
  const sealed = seal(a, 'secret');
  expect(() => open(b, sealed)).toThrow(UnsealError);
  expect(() => open({ ...a, accountId: bob }, sealed)).toThrow(UnsealError);
  const flipped = sealed.slice(0, -2) + (sealed.endsWith('AA') ? 'BB' : 'AA');
  expect(() => open(a, flipped)).toThrow(UnsealError);
  expect(() => open(a, 'sealed:v1:AAAA')).toThrow(UnsealError);
  expect(() => open(a, 'plain')).toThrow(UnsealError);
});

test('a row moved to another account does not open', async () => {
  const carl: AccountId = streamId('acc', 0, 'carl'.repeat(5));
  const dora: AccountId = streamId('acc', 0, 'dora'.repeat(5));
  await createPersonKey(world.db, master, carl);
  await world.db
    .updateTable('person_keys')
    .set({ account_id: dora })
    .where('account_id', '=', carl)
    .execute();
  await expect(findPersonKey(world.db, master, dora)).rejects.toThrow(UnsealError);
});

test('with another master key the row says which one it needs', async () => {
  await createPersonKey(world.db, master, ada);
  const other = masterKeys([randomBytes(32)]);
  await expect(findPersonKey(world.db, other, ada)).rejects.toThrow(`wrapped by master key ${master[0].id}`);
});

test('without its key a person is erased, or lost: the error says so', async () => {
  const eve: AccountId = streamId('acc', 0, 'eve0'.repeat(5));
  await createPersonKey(world.db, master, eve);
  await deletePersonKey(world.db, eve);
  await expect(findPersonKey(world.db, master, eve)).rejects.toThrow(PersonKeyMissingError);
});

test('a registration that did not come to be leaves neither key nor password', async () => {
  const people = createPeople(world.db, master, createPasswords({ cost: 4 }));
  const gil: AccountId = streamId('acc', 0, 'gil0'.repeat(5));
  await people.savePassword(gil, 'first password');
  await people.savePassword(gil, 'second password');
  await people.sealFor(gil, ['Gil']);
  expect(await people.passwordMatches(gil, 'first password')).toBe(false);
  expect(await people.passwordMatches(gil, 'second password')).toBe(true);
  expect(await people.passwordMatches(undefined, 'second password')).toBe(false);
  await people.forget(gil);
  expect(await people.passwordMatches(gil, 'second password')).toBe(false);
  await expect(people.openFor(gil, [])).rejects.toThrow(PersonKeyMissingError);
});

/** Columns of which Postgres has samples. */
async function sampled(): Promise<string[]> {
  await sql`ANALYZE person_keys, credentials`.execute(world.db);
  const { rows } = await sql<{ column: string }>`
    SELECT attname AS column FROM pg_stats WHERE tablename IN ('person_keys', 'credentials')`.execute(
    world.db,
  );
  return rows.map(({ column }) => column);
}

test('of keys and passwords Postgres keeps no samples, in which those could be read that were deleted', async () => {
  const people = createPeople(world.db, master, createPasswords({ cost: 4 }));
  for (let n = 0; n < 3; n++) {
    const id: AccountId = streamId('acc', 0, `many${n}`.repeat(4));
    await people.savePassword(id, 'correct horse battery');
    await people.sealFor(id, []);
  }
  const secrets = ['wrapped_key', 'password_hash'];
  const others = await sampled();
  expect(others).toContain('master_key_id');
  expect(others.filter((column) => secrets.includes(column))).toEqual([]);

  // Nor those that it had taken before.
  await sql`ALTER TABLE person_keys ALTER COLUMN wrapped_key SET STATISTICS 100`.execute(world.db);
  await sql`ALTER TABLE credentials ALTER COLUMN password_hash SET STATISTICS 100`.execute(world.db);
  expect(await sampled()).toEqual(expect.arrayContaining(secrets));
  const db = openDatabase<unknown>({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  await takeNoSamples(db);
  await db.destroy();
  expect((await sampled()).toSorted()).toEqual(others.toSorted());
});
