import { sql } from 'kysely';
import { describe, expect, it, onTestFinished } from 'vitest';
import { publishHint } from '../../src/consumers/hints.ts';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import { moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { pausedGroups, pauseGroup, resumeGroup } from '../../src/eventstore/pauses.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { OrderedGroup } from '../../src/eventstore/types.ts';
import type { World } from '../support/world.ts';
import { appendEvents, openStore, openWorld, roleDeps, until } from './support.ts';

const KEEP_ALL = { windowEvents: 1_000_000, retentionMs: 0, everyMs: 60_000 };
const [PAUSED, OTHER] = ['projection:paused@1', 'projection:other@1'];

/** A group that remembers what it was given. */
function recorder(db: World['db'], name: string) {
  const seen: RawEvent[] = [];
  const group: OrderedGroup = {
    name,
    open: (partition, token) => openCheckpoint(db, name, partition, token),
    async apply(partition, from, events, token) {
      const last = events.at(-1);
      const to = { epoch: last?.epoch ?? 0, seq: last?.seq ?? 0, eventId: last?.id ?? null };
      await db
        .transaction()
        .execute((trx) => moveCheckpoint(trx, { group: name, partition, from, to, token }));
      seen.push(...events);
      return to;
    },
  };
  return { group, seen };
}

async function start(world: World, store: OpenEventStore, groups: readonly OrderedGroup[], trim = KEEP_ALL) {
  const deps = roleDeps(world, store);
  const projectors = await startProjectors({ ...deps, groups, trim });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= projectors.stop());
  onTestFinished(stop);
  await projectors.ready();
  const metric = async (line: string) => (await deps.metrics.render(undefined)).body.includes(line);
  return { stop, metric };
}

let operations = 0;
const asked = (group: string) => ({ group, operation: `op-${++operations}`, by: 'test', reason: 'a test' });

/** One that groups read two of, and the ledger. */
async function reading({ hints = true, trim = KEEP_ALL } = {}) {
  const { world, store } = await openWorld();
  const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const [paused, other] = [recorder(world.db, PAUSED), recorder(world.db, OTHER)];
  const groups = [createLedger(pool, world.db), paused.group, other.group];
  const tell = () => hints && publishHint(store.writer.redis, world.prefix, 'groups', PAUSED);
  return {
    ...{ world, store, paused, other },
    start: async () => start(world, await openStore(world), groups, trim),
    pause: async () => {
      await pauseGroup(world.db, asked(PAUSED));
      tell();
    },
    resume: async () => {
      await resumeGroup(world.db, asked(PAUSED));
      tell();
    },
  };
}

describe('A paused group', () => {
  it('applies nothing, in any process, while others go on; resumed, it goes on where it stood', async () => {
    const { store, paused, other, start, pause, resume } = await reading();
    const [one, two] = await Promise.all([start(), start()]);
    await appendEvents(store, 0, 20);
    await until(() => expect(paused.seen).toHaveLength(20));
    await pause();
    for (const each of [one, two])
      await until(async () =>
        expect(await each.metric(`millrace_group_paused{group="${PAUSED}"} 1`)).toBe(true),
      );
    await Promise.all([appendEvents(store, 0, 30), appendEvents(store, 1, 30)]);
    await until(() => expect(other.seen).toHaveLength(80));
    expect(paused.seen).toHaveLength(20);
    await resume();
    await until(() => expect(paused.seen).toHaveLength(80));
    for (const partition of [0, 1]) {
      const seqs = paused.seen.filter((event) => event.partition === partition).map(({ seq }) => seq);
      expect(seqs).toEqual(seqs.map((_, index) => index + 1));
    }
    for (const each of [one, two])
      expect(await each.metric(`millrace_group_paused{group="${PAUSED}"} 0`)).toBe(true);
  });

  it('holds within about a second where nobody heard of it, and goes on as soon', async () => {
    const { store, paused, start, pause, resume } = await reading({ hints: false });
    const { metric } = await start();
    await pause();
    await until(
      async () => expect(await metric(`millrace_group_paused{group="${PAUSED}"} 1`)).toBe(true),
      10_000,
    );
    await appendEvents(store, 0, 5);
    await resume();
    await until(() => expect(paused.seen).toHaveLength(5), 10_000);
  });

  it('stays paused with the next owner, also where the first was not there when it was paused', async () => {
    const { store, paused, other, start, pause, resume } = await reading();
    await pause();
    await appendEvents(store, 0, 5);
    const first = await start();
    await until(() => expect(other.seen).toHaveLength(5));
    await first.stop();
    await start();
    await appendEvents(store, 0, 5);
    await until(() => expect(other.seen).toHaveLength(10));
    expect(paused.seen).toEqual([]);
    await resume();
    await until(() => expect(paused.seen).toHaveLength(10));
  });

  it('is not read for while it can not be known yet whether it is paused', async () => {
    const { world, store, paused, other, start, pause } = await reading();
    await pause();
    const locked = Promise.withResolvers<void>();
    const unlock = Promise.withResolvers<void>();
    const holding = world.db.transaction().execute(async (trx) => {
      await sql`LOCK TABLE group_pauses IN ACCESS EXCLUSIVE MODE`.execute(trx);
      locked.resolve();
      await unlock.promise;
    });
    await locked.promise;
    await appendEvents(store, 0, 5);
    const { metric } = await start();
    await until(async () =>
      expect(await metric(`millrace_group_lag_events{group="${PAUSED}",partition="0"} 5`)).toBe(true),
    );
    expect([paused.seen, other.seen]).toEqual([[], []]);
    unlock.resolve();
    await holding;
    await until(() => expect(other.seen).toHaveLength(5));
    expect(paused.seen).toEqual([]);
  });

  it('shows how far behind it is, and does not keep the log from being trimmed', async () => {
    const trim = { windowEvents: 0, retentionMs: 0, everyMs: 50 };
    const { store, paused, start, pause, resume } = await reading({ trim });
    const { metric } = await start();
    await pause();
    await until(async () => expect(await metric(`millrace_group_paused{group="${PAUSED}"} 1`)).toBe(true));
    await appendEvents(store, 0, 300);
    await until(async () =>
      expect(await metric(`millrace_group_lag_events{group="${PAUSED}",partition="0"} 300`)).toBe(true),
    );
    await until(async () =>
      expect(await store.reader.redis.xlen(store.keys[0]?.log ?? '')).toBeLessThan(250),
    );
    await resume();
    await until(() =>
      expect(paused.seen.map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, n) => n + 1)),
    );
  });
});

describe('A pause', () => {
  it('that was asked for and has ended is not made anew by a request that comes again', async () => {
    const { world } = await openWorld();
    const [pause, resume] = [asked(PAUSED), asked(PAUSED)];
    await pauseGroup(world.db, pause);
    await pauseGroup(world.db, asked(PAUSED));
    expect((await pausedGroups(world.db)).get(PAUSED)).toMatchObject({ by: 'test', reason: 'a test' });
    await resumeGroup(world.db, resume);
    await pauseGroup(world.db, pause);
    expect((await pausedGroups(world.db)).size).toBe(0);
    await pauseGroup(world.db, asked(PAUSED));
    await resumeGroup(world.db, resume);
    expect([...(await pausedGroups(world.db)).keys()]).toEqual([PAUSED]);
  });
});
