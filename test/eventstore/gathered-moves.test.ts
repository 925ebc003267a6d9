import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { EventId } from '../../src/domain/ids.ts';
import { moveCheckpoint, openCheckpoint, readCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { gatherMoves } from '../../src/eventstore/gathered-moves.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import type { LedgerTables } from '../../src/eventstore/tables.ts';
import { FencedError } from '../../src/eventstore/types.ts';
import { createWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(async () => {
  await world.db.deleteFrom('checkpoints').execute();
  for (const group of ['one', 'other'])
    for (const partition of [0, 1]) await openCheckpoint(world.db, group, partition, 5);
});

const start = { epoch: 0, seq: 0, eventId: null };
const to = { epoch: 1, seq: 9, eventId: 'e9' as EventId };
const move = (group: string, partition: number, more = {}) => ({
  group,
  partition,
  from: start,
  to,
  token: 5,
  ...more,
});
const at = async (group: string, partition: number) =>
  (await readCheckpoint(world.db, group, partition))?.seq;

it('checkpoints of groups and partitions move together, each as far as it was to', async () => {
  const pass = gatherMoves(world.db);
  const further = { ...to, seq: 12, eventId: 'e12' as EventId };
  await Promise.all([pass(move('one', 0)), pass(move('one', 1, { to: further })), pass(move('other', 0))]);
  expect(await readCheckpoint(world.db, 'one', 1)).toEqual(further);
  expect([await at('one', 0), await at('other', 0), await at('other', 1)]).toEqual([9, 9, 0]);
  await pass(move('one', 0, { from: to, to: further }));
  expect(await at('one', 0)).toBe(12);
});

it.each([
  ['whose token is stale', { token: 4 }],
  ['whose token Postgres has forgotten, as it was set back', { token: 6 }],
  ['whose token Postgres has lost', { token: 6 }],
  ['that is not where the batch began', { from: { ...start, seq: 3 } }],
  ['that stands at another event there', { from: { ...start, eventId: 'e0' as EventId } }],
])('one %s stays, and its owner is told; the others move', async (_what, stale) => {
  const pass = gatherMoves(world.db);
  const [refused, ...moved] = await Promise.allSettled([pass(move('one', 0, stale)), pass(move('one', 1))]);
  expect(refused).toMatchObject({ status: 'rejected', reason: expect.any(FencedError) });
  expect(moved).toEqual([{ status: 'fulfilled', value: undefined }]);
  expect([await at('one', 0), await at('one', 1)]).toEqual([0, 9]);
});

it('one that somebody holds is waited for by itself: the others move at once', async () => {
  const pass = gatherMoves(world.db);
  let held: Promise<void> | undefined;
  await world.db.transaction().execute(async (trx) => {
    await sql`SELECT FROM checkpoints WHERE group_name = 'one' AND partition = 0 FOR UPDATE`.execute(trx);
    held = pass(move('one', 0));
    await pass(move('other', 0));
    expect([await at('one', 0), await at('other', 0)]).toEqual([0, 9]);
  });
  await held;
  expect(await at('one', 0)).toBe(9);
});

it('one that was held until it moved elsewhere is fenced', async () => {
  const pass = gatherMoves(world.db);
  let held: Promise<unknown> | undefined;
  await world.db.transaction().execute(async (trx) => {
    await moveCheckpoint(trx, move('one', 0));
    held = pass(move('one', 0)).catch((error: unknown) => error);
    await pass(move('other', 0));
  });
  expect(await held).toBeInstanceOf(FencedError);
});

it('where Postgres can’t be asked everybody is told, and may try again', async () => {
  const db = openDatabase<LedgerTables>({
    url: world.databaseUrl,
    max: 1,
    applicationName: 'test',
    lockTimeoutMs: 50,
  });
  try {
    const pass = gatherMoves(db);
    await world.db.transaction().execute(async (trx) => {
      await sql`LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE`.execute(trx);
      const told = await Promise.allSettled([pass(move('one', 0)), pass(move('one', 1))]);
      expect(told).toMatchObject(told.map(() => ({ status: 'rejected', reason: { code: '55P03' } })));
    });
    await Promise.all([pass(move('one', 0)), pass(move('one', 1))]);
    expect([await at('one', 0), await at('one', 1)]).toEqual([9, 9]);
  } finally {
    await db.destroy();
  }
});
