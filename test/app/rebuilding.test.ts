import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { createRebuilding } from '../../src/app/rebuilding.ts';
import { projection as accounts } from '../../src/projections/accounts.ts';
import { projection as jobs } from '../../src/projections/jobs/table.ts';
import { beginRebuild, giveUpRebuild } from '../../src/projections/rebuild/rebuilds.ts';
import { createLogger } from '../../src/telemetry/logging.ts';
import { waitUntil } from '../support/installation.ts';
import { createWorld } from '../support/world.ts';

it('while indexes of one rebuild take long, others begin and are cancelled, and the process stops', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const { db } = world;
  await sql`
    CREATE FUNCTION slowly(id text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
      BEGIN PERFORM pg_sleep(30); RETURN id; END $$;
    CREATE INDEX jobs_v2_g1_slow ON jobs_v2_g1 (slowly(id))`.execute(db);
  const options = { partitions: 1, by: 'a test', reason: 'it is one' };
  const long = await beginRebuild(db, jobs, options);
  // Something to be indexed; what it says does not matter.
  await sql`
    INSERT INTO ${sql.table(long.table_name)} (id, owner, type, queue, priority, status, due_at, on_timer, attempts,
      progress, discarded, version, created_at)
    VALUES ('a', 'b', 'echo', 'default', 'normal', 'queued', now(), false, 0, 0, false, 1, now())`.execute(
    db,
  );
  const logger = createLogger({ level: 'silent', role: 'test', instanceId: 'test' });
  const store = { heads: async () => [0], archives: undefined };
  const rebuilding = createRebuilding({ config: { DATABASE_URL: world.databaseUrl }, logger }, { db, store });
  const changes: number[] = [];
  rebuilding.start(() => changes.push(rebuilding.groups().length));
  await waitUntil(async () => {
    const { rows } = await sql`
      SELECT FROM pg_locks JOIN pg_class c ON c.oid = relation
      WHERE c.relname = ${long.table_name} AND mode = 'ShareLock'`.execute(db);
    return rows.length > 0;
  }, 'the indexes to be made');
  const short = await beginRebuild(db, accounts, options);
  await waitUntil(async () => rebuilding.groups().length === 2, 'the other one to begin', 5_000);
  await giveUpRebuild(db, short.id, 'cancelled');
  await waitUntil(async () => rebuilding.groups().length === 1, 'the other one to be over', 5_000);
  const begun = performance.now();
  await rebuilding.stop();
  expect(performance.now() - begun).toBeLessThan(5_000);
});

it('a rebuild that went live is told to who keeps what was read of it', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const logger = createLogger({ level: 'silent', role: 'test', instanceId: 'test' });
  const store = { heads: async () => [0], archives: undefined };
  const others: string[] = [];
  const base = { config: { DATABASE_URL: world.databaseUrl }, logger };
  const rebuilding = createRebuilding(base, { db: world.db, store }, (group) => others.push(group));
  onTestFinished(() => rebuilding.stop());
  await beginRebuild(world.db, accounts, { partitions: 1, by: 'a test', reason: 'it is one' });
  await world.db.updateTable('checkpoints').set({ seq: 0 }).execute();
  rebuilding.start(() => {});
  await waitUntil(() => others.length > 0, 'the rebuild to go live');
  expect(others).toEqual(['projection:accounts@1']);
});
