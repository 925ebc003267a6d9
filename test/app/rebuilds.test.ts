import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cancelRebuild, foreseeCancel, foreseeRebuild, rebuildReadModel } from '../../src/app/rebuilds.ts';
import { projection } from '../../src/projections/jobs/table.ts';
import { activeRebuilds, beginRebuild, giveUpRebuild } from '../../src/projections/rebuild/rebuilds.ts';
import { context, writeSide } from '../commands/support.ts';
import { createWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(async () => {
  for (const { id } of await activeRebuilds(world.db)) await giveUpRebuild(world.db, id, 'cancelled');
});

const why = (key?: string) => ({ ...context(key), actor: 'system:cli:ada', reason: 'a test' });
const settings = { park: false, drop: false };
async function deps() {
  const { deps: commands, store } = await writeSide();
  const recorded = async () => (await store.heads()).reduce((sum, head) => sum + head, 0);
  return { deps: { db: world.db, commands, partitions: 2 }, recorded };
}

describe('Who asks with an idempotency key', () => {
  it('to cancel what is not there is refused as without one, and nothing is recorded', async () => {
    const { deps: given, recorded } = await deps();
    expect(await cancelRebuild(given, why('k1'), 'jobs')).toMatchObject({
      kind: 'refused',
      refusal: { code: 'no_rebuild' },
    });
    expect(await cancelRebuild(given, why('k2'), 'nothing')).toMatchObject({
      kind: 'refused',
      refusal: { code: 'not_found' },
    });
    expect(await recorded()).toBe(0);
  });

  it('to rebuild what is being rebuilt is refused before it is recorded; the same request again is not', async () => {
    const { deps: given, recorded } = await deps();
    const begun = await rebuildReadModel(given, why('k1'), 'jobs', settings);
    expect(await rebuildReadModel(given, why('k2'), 'jobs', settings)).toMatchObject({
      kind: 'refused',
      refusal: { code: 'rebuild_under_way' },
    });
    expect(await recorded()).toBe(1);
    const again = await rebuildReadModel(given, why('k1'), 'jobs', settings);
    expect(again).toMatchObject({ kind: 'done', replayed: true });
    const generation = begun.kind === 'done' ? begun.body.generation : 0;
    expect(again.kind === 'done' && again.body.generation).toBe(generation);
  });
});

it('a cancel that comes again ends no later rebuild', async () => {
  const { deps: given } = await deps();
  await rebuildReadModel(given, why(), 'jobs', settings);
  const first = await cancelRebuild(given, why('k'), 'jobs');
  const later = await rebuildReadModel(given, why(), 'jobs', settings);
  const again = await cancelRebuild(given, why('k'), 'jobs');
  if (first.kind !== 'done' || later.kind !== 'done') throw new Error('not done');
  expect(again).toMatchObject({ kind: 'done', replayed: true, body: first.body });
  expect((await activeRebuilds(world.db)).map(({ generation }) => generation)).toEqual([
    later.body.generation,
  ]);
});

describe('A rebuild of a version that no code here has', () => {
  it('is in nobody’s way, and can be cancelled', async () => {
    const { deps: given } = await deps();
    await sql`CREATE TABLE jobs_v9 (LIKE jobs_v2_g1 INCLUDING ALL); SELECT make_read_model('jobs', 9)`.execute(
      world.db,
    );
    const other = { name: 'jobs', version: 9 };
    await beginRebuild(world.db, other, { partitions: 2, by: 'a test', reason: 'it is one' });
    expect(await foreseeRebuild(world.db, 'jobs')).toMatchObject({ ok: true });
    expect(await rebuildReadModel(given, why(), 'jobs', settings)).toMatchObject({ kind: 'done' });
    expect(await foreseeCancel(world.db, 'jobs')).toMatchObject({ rebuild: { version: projection.version } });
    for (const version of [projection.version, 9])
      expect(await cancelRebuild(given, why(), 'jobs')).toMatchObject({
        kind: 'done',
        body: { version, phase: 'cancelled' },
      });
    expect(await activeRebuilds(world.db)).toEqual([]);
  });
});
