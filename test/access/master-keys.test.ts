import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { afterAll, beforeEach, expect, test } from 'vitest';
import {
  checkMasterKeys,
  listMasterKeys,
  MasterKeysMissingError,
  rotatePersonKeys,
} from '../../src/access/master-keys.ts';
import {
  createPersonKey,
  deletePersonKey,
  findPersonKey,
  masterKeys,
  open,
  seal,
} from '../../src/access/people.ts';
import { type AccountId, streamId } from '../../src/domain/ids.ts';
import { createWorld, type World } from '../support/world.ts';

const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
const former = masterKeys([oldKey]);
const both = masterKeys([newKey, oldKey]);
const after = masterKeys([newKey]);
const account = (n: number): AccountId => streamId('acc', 0, String(n).padStart(20, '0'));
let world: World | undefined;

beforeEach(async () => {
  await world?.dispose();
  world = await createWorld();
});
afterAll(() => world?.dispose());

async function people(count: number) {
  if (!world) throw new Error('there is no world');
  const { db } = world;
  const ids = Array.from({ length: count }, (_, n) => account(n));
  const sealed = await Promise.all(
    ids.map(async (id) => seal(await createPersonKey(db, former, id), `text of ${id}`)),
  );
  return { db, ids, sealed };
}

test('after a rotation the new master key alone opens what was sealed before, the old one nothing', async () => {
  const { db, ids, sealed } = await people(25);
  const progress: number[] = [];
  expect(await rotatePersonKeys(db, both, { batch: 10, onBatch: (done) => progress.push(done) })).toEqual({
    done: 25,
    damaged: [],
  });
  expect(progress).toEqual([10, 20, 25]);
  for (const [n, id] of ids.entries()) {
    expect(open(await findPersonKey(db, after, id), sealed[n] ?? '')).toBe(`text of ${id}`);
    await expect(findPersonKey(db, former, id)).rejects.toThrow(`wrapped by master key ${after[0].id}`);
  }
  expect(await listMasterKeys(db, both)).toEqual([
    { id: after[0].id, keys: 25, use: 'wraps' },
    { id: former[0].id, keys: 0, use: 'opens' },
  ]);
  expect(await rotatePersonKeys(db, both)).toEqual({ done: 0, damaged: [] });
});

test('one that was cut off has done a part, and the next one does the rest', async () => {
  const { db, ids } = await people(30);
  const cutOff = rotatePersonKeys(db, both, {
    batch: 10,
    onBatch() {
      throw new Error('cut off');
    },
  });
  await expect(cutOff).rejects.toThrow('cut off');
  expect((await listMasterKeys(db, both)).map(({ keys }) => keys)).toEqual([10, 20]);
  // Both kinds open meanwhile, and who comes is wrapped by the new one.
  for (const id of ids) await findPersonKey(db, both, id);
  await createPersonKey(db, both, account(99));
  expect(await rotatePersonKeys(db, both)).toEqual({ done: 20, damaged: [] });
  expect((await listMasterKeys(db, both)).map(({ keys }) => keys)).toEqual([31, 0]);
});

test('who is erased while it goes on stays erased', async () => {
  const { db, ids } = await people(30);
  const [, , gone = account(0)] = ids.slice(20);
  const deletions: Promise<void>[] = [];
  const { done } = await rotatePersonKeys(db, both, {
    batch: 10,
    onBatch: () => deletions.push(deletePersonKey(db, gone)),
  });
  await Promise.all(deletions);
  expect([29, 30]).toContain(done);
  await expect(findPersonKey(db, both, gone)).rejects.toThrow('no key for the person');
});

test('where a master key is missing nothing is changed, and it is said which', async () => {
  const { db } = await people(3);
  const strange = masterKeys([randomBytes(32)]);
  await expect(checkMasterKeys(db, strange)).rejects.toThrow(`${former[0].id} (3 people)`);
  await expect(rotatePersonKeys(db, strange)).rejects.toThrow(MasterKeysMissingError);
  expect(await listMasterKeys(db, strange)).toEqual([
    { id: strange[0].id, keys: 0, use: 'wraps' },
    { id: former[0].id, keys: 3, use: 'missing' },
  ]);
  const { rows } = await sql<{ n: number }>`
    SELECT count(*)::int AS n FROM person_keys WHERE master_key_id = ${former[0].id}`.execute(db);
  expect(rows[0]?.n).toBe(3);
  await checkMasterKeys(db, both);
});

test('a row that was damaged stays as it is, and holds up nobody: it is said whose it is', async () => {
  const { db, ids } = await people(12);
  const [, damaged = account(0)] = ids;
  await db
    .updateTable('person_keys')
    .set({ wrapped_key: randomBytes(60) })
    .where('account_id', '=', damaged)
    .execute();
  expect(await rotatePersonKeys(db, both, { batch: 5 })).toEqual({ done: 11, damaged: [damaged] });
  expect((await listMasterKeys(db, both)).map(({ keys }) => keys)).toEqual([11, 1]);
});

test('of two that run at once each does a part, and every key opens', async () => {
  const { db, ids, sealed } = await people(400);
  const rounds = await Promise.all([3, 7, 400].map((batch) => rotatePersonKeys(db, both, { batch })));
  expect(rounds.reduce((sum, { done }) => sum + done, 0)).toBe(400);
  for (const [n, id] of ids.entries()) {
    expect(open(await findPersonKey(db, after, id), sealed[n] ?? '')).toBe(`text of ${id}`);
  }
});
