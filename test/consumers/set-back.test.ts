import { sql } from 'kysely';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import { moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OrderedGroup } from '../../src/eventstore/types.ts';
import { collectFindings } from '../../src/eventstore/verify/findings.ts';
import { verifyLedger } from '../../src/eventstore/verify/ledger.ts';
import type { World } from '../support/world.ts';
import { appendEvents, openWorld, roleDeps, until } from './support.ts';

const NAME = 'projection:quiet@1';
const TABLES = ['ledger', 'ledger_batches', 'stream_heads', 'checkpoints'];

function recorder(db: World['db']) {
  const seen: RawEvent[] = [];
  const group: OrderedGroup = {
    name: NAME,
    open: (partition, token) => openCheckpoint(db, NAME, partition, token),
    async apply(partition, from, events, token) {
      const last = events.at(-1);
      const to = { epoch: last?.epoch ?? 0, seq: last?.seq ?? 0, eventId: last?.id ?? null };
      await db
        .transaction()
        .execute((trx) => moveCheckpoint(trx, { group: NAME, partition, from, to, token }));
      seen.push(...events);
      return to;
    },
  };
  return { group, seen };
}

async function copyOf({ db }: World): Promise<void> {
  for (const table of TABLES) {
    await sql`CREATE TABLE ${sql.table(`${table}_then`)} AS SELECT * FROM ${sql.table(table)}`.execute(db);
  }
}

/** Postgres is as it was, all at once, as after a failover to a replica that was behind. */
async function setBack({ db }: World): Promise<void> {
  await db.transaction().execute(async (trx) => {
    for (const table of TABLES) {
      await sql`DELETE FROM ${sql.table(table)}`.execute(trx);
      await sql`INSERT INTO ${sql.table(table)} SELECT * FROM ${sql.table(`${table}_then`)}`.execute(trx);
    }
  });
}

describe('Postgres is set back while nothing happens', () => {
  it('and its readers take over again what it lost, without an event that tells them', async () => {
    const { world, store } = await openWorld();
    const pool = openPool({ url: world.databaseUrl, max: 4, applicationName: 'test' });
    onTestFinished(() => pool.end());
    const quiet = recorder(world.db);
    const groups = [createLedger(pool, world.db), quiet.group];
    const trim = { windowEvents: 1_000_000, retentionMs: 0, everyMs: 60_000 };
    const projectors = await startProjectors({ ...roleDeps(world, store), groups, trim });
    onTestFinished(() => projectors.stop());
    const inLedger = async () => (await world.db.selectFrom('ledger').select('seq').execute()).length;
    const seqs = () => quiet.seen.map(({ seq }) => seq);

    await appendEvents(store, 0, 3);
    await until(async () => expect([await inLedger(), seqs()]).toEqual([3, [1, 2, 3]]));
    await copyOf(world);
    await appendEvents(store, 0, 4);
    await until(async () => expect([await inLedger(), seqs().length]).toEqual([7, 7]));
    await setBack(world);
    expect(await inLedger()).toBe(3);

    await until(async () => expect(await inLedger()).toBe(7), 20_000);
    await until(() => expect(seqs()).toEqual([1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]), 20_000);
    const findings = collectFindings();
    expect(await verifyLedger(world.db, 2, findings)).toBe(7);
    expect(findings.first()).toEqual([]);

    // To before the partition was taken over, and nothing has happened there since: the token alone tells.
    const tokens = () =>
      world.db
        .selectFrom('checkpoints')
        .select(['group_name', 'partition', 'token'])
        .orderBy('token')
        .execute();
    const before = await tokens();
    await world.db.updateTable('checkpoints').set({ token: 0 }).execute();
    await until(async () => expect(await tokens()).toEqual(before), 20_000);
  });
});
