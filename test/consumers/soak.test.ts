import { Redis } from 'ioredis';
import { expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OrderedGroup } from '../../src/eventstore/types.ts';
import { ownRedis } from '../support/own-redis.ts';
import type { World } from '../support/world.ts';
import { runWorkers, testJob } from './running.ts';
import { enqueue, openWorld, roleDeps, until } from './support.ts';

const PARTITIONS = 2;
const TRIM = { windowEvents: 100, retentionMs: 500, everyMs: 200 };
const PHASE_MS = 5_000;

type Mood = 'reads' | 'paused' | 'dead';

/** A group that reads, stands still, or fails at whatever it is given. */
function moodyGroup(db: World['db']) {
  const name = 'projection:moody@1';
  const seqs = new Map<number, number[]>();
  let mood: Mood = 'reads';
  let wake = () => {};
  let paused: Promise<void> | undefined;
  const group: OrderedGroup = {
    name,
    open: (partition, token) => openCheckpoint(db, name, partition, token),
    async apply(partition, from, events, token) {
      await paused;
      if (mood === 'dead') throw new Error('this group is dead');
      const last = events.at(-1);
      const to = { epoch: last?.epoch ?? 0, seq: last?.seq ?? 0, eventId: last?.id ?? null };
      const move = { group: name, partition, from, to, token };
      await db.transaction().execute((trx) => moveCheckpoint(trx, move));
      seqs.set(partition, [...(seqs.get(partition) ?? []), ...events.map(({ seq }) => seq)]);
      return to;
    },
  };
  const turn = (to: Mood) => {
    mood = to;
    wake();
    paused = to === 'paused' ? new Promise((resolve) => (wake = resolve)) : undefined;
  };
  return { group, seqs, turn };
}

it('Redis holds no more after any length of steady load, whether a reader reads, is paused, catches up or is dead', async () => {
  const server = await ownRedis();
  const { world, store } = await openWorld({ partitions: PARTITIONS, redisUrl: server.url });
  const redis = new Redis(server.url);
  onTestFinished(() => redis.disconnect());
  const pool = openPool({ url: world.databaseUrl, max: 4, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const moody = moodyGroup(world.db);
  const groups = [createLedger(pool, world.db), moody.group];
  const projectors = await startProjectors({ ...roleDeps(world, store), groups, trim: TRIM });
  onTestFinished(() => projectors.stop());
  await runWorkers(world, store, [testJob(async () => 'done')]);

  let goOn = true;
  let jobs = 0;
  const load = (async () => {
    while (goOn) {
      const batch = Array.from({ length: 10 }, () => enqueue(store, { partition: jobs++ % PARTITIONS }));
      await Promise.all([...batch, new Promise((resolve) => setTimeout(resolve, 40))]);
    }
  })();
  onTestFinished(() => {
    goOn = false;
  });

  const sample = async () => {
    const lengths = await Promise.all(store.keys.map(({ log }) => redis.xlen(log)));
    const used = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
    return { log: lengths.reduce((sum, length) => sum + length, 0), keys: await redis.dbsize(), used };
  };
  /** The most that Redis held in a phase. */
  const most = async (mood: Mood, ms = PHASE_MS) => {
    moody.turn(mood);
    const end = performance.now() + ms;
    const samples: Awaited<ReturnType<typeof sample>>[] = [];
    while (performance.now() < end) {
      samples.push(await sample());
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const max = (of: 'log' | 'keys' | 'used') => Math.max(...samples.map((each) => each[of]));
    return { log: max('log'), keys: max('keys'), used: max('used') };
  };

  await most('reads', 2_000);
  const line = await most('reads');
  const phases = [await most('paused'), await most('reads'), await most('dead')];
  const events = (await store.heads()).reduce((sum, head) => sum + head, 0);
  // What came by is many times what Redis ever held of it.
  expect(events).toBeGreaterThan(5 * line.log);
  for (const phase of phases) {
    expect(phase.log).toBeLessThan(2 * line.log);
    expect(phase.keys).toBeLessThan(2 * line.keys);
    expect(phase.used).toBeLessThan(line.used + 2_000_000);
  }
  goOn = false;
  await load;
  expect(jobs).toBeGreaterThan(2_000);

  // What was trimmed before it was read is in the ledger: nothing was missed, nothing came twice.
  moody.turn('reads');
  const heads = await store.heads();
  await until(
    () => expect([...heads.keys()].map((partition) => moody.seqs.get(partition)?.length)).toEqual(heads),
    30_000,
  );
  for (const [partition, head] of heads.entries()) {
    expect(moody.seqs.get(partition)).toEqual(Array.from({ length: head }, (_, index) => index + 1));
  }
});
