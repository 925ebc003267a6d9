import fc from 'fast-check';
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { codec } from '../../src/domain/events.ts';
import { partitionOf } from '../../src/domain/ids.ts';
import { everyJobEvent, type JobEvent } from '../../src/domain/jobs/events.ts';
import { collectFindings } from '../../src/eventstore/verify/findings.ts';
import type { Projection } from '../../src/projections/projection.ts';
import { rewind } from '../../src/projections/rewind.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { verifyProjection } from '../../src/projections/verify/verify.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels, writeLedger } from './support/harness.ts';
import { history } from './support/histories.ts';

type CountRow = { readonly id: string; readonly what: string; readonly events: number };

/** The one of docs/how-to/add-a-projection.md: how many events of each type there were, over all partitions. */
const counts: Projection<CountRow, JobEvent> = {
  name: 'counts',
  version: 1,
  table: 'counts_v1' as never,
  columns: { id: 'text', what: 'text', events: 'bigint' },
  handles: everyJobEvent,
  key: ({ partition, type }) => `count-${partition.toString(36).padStart(2, '0')}.${type}`,
  reduce: (row, { partition, type }) => ({
    id: row?.id ?? `count-${partition.toString(36).padStart(2, '0')}.${type}`,
    what: type,
    events: (row?.events ?? 0) + 1,
  }),
  streamsOf: () => [],
};

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await sql`
    CREATE TABLE counts_v1 (id text COLLATE "C" PRIMARY KEY, what text NOT NULL, events bigint NOT NULL);
    SELECT make_read_model('counts', 1)`.execute(world.db);
});
afterAll(() => world.dispose());

const total = async () => {
  const { rows } = await sql<{ what: string; events: number }>`
    SELECT what, sum(events)::int AS events FROM counts_v1 GROUP BY what ORDER BY what`.execute(world.db);
  return Object.fromEntries(rows.map(({ what, events }) => [what, events]));
};

it('a counter is a row of each partition, and their sum: whatever the batches, with every owner dying in between', async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 });
  const example = fc.asyncProperty(history(0), history(1), sizes, async (one, other, sizes) => {
    await emptyReadModels(world);
    const expected: Record<string, number> = {};
    for (const { type } of [...one, ...other]) {
      if (Object.hasOwn(everyJobEvent, type)) expected[type] = (expected[type] ?? 0) + 1;
    }
    const group = () => createProjectionGroup({ db: world.db, projection: counts, codec });
    await Promise.all([applyAll(group(), one, 1, sizes), applyAll(group(), other, 2, sizes)]);
    expect(await total()).toEqual(expected);
    // A partition that is taken back, as by a recovery, is counted anew; the others stay as they are.
    await rewind(world.db, counts, 0);
    for (const each of Object.keys(await total())) expect(expected[each]).toBeGreaterThan(0);
    await applyAll(group(), one, 3, [3]);
    expect(await total()).toEqual(expected);
    for (const log of [one, other]) await writeLedger(world, log);
    for (const [partition, log] of [one, other].entries()) {
      await sql`INSERT INTO checkpoints (group_name, partition, epoch, seq) VALUES ('ledger', ${partition}, 1, ${log.length})`.execute(
        world.db,
      );
    }
    const findings = collectFindings();
    await verifyProjection(world.db, counts, codec, findings);
    expect(findings.first()).toEqual([]);
    expect(one.every(({ streamId }) => partitionOf(streamId) === 0)).toBe(true);
  });
  await fc.assert(example, { numRuns: 15, endOnFailure: true });
});
