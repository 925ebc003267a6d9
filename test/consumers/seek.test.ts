import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { recover } from '../../src/consumers/recovery/recover.ts';
import { planSeek, planUndo, type SeekTarget, seek } from '../../src/consumers/seek.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { callbackUrl, cursorOf, endJob, ends, group, idsTold, start } from './notifying.ts';
import { appendEvents, openStore, openWorld, until } from './support.ts';

/** A ledger that follows, and a notifier that stands still until it is started. */
async function standing() {
  const { world, store } = await openWorld();
  const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const ledger = await start(world, await openStore(world), [createLedger(pool, world.db)]);
  const deps = { db: world.db, store };
  let operations = 0;
  const asked = () => ({
    reactor: 'notifier',
    operation: `op-${++operations}`,
    by: 'test',
    reason: 'a test',
  });
  return {
    ...{ world, store, pool, deps, ledger },
    end: () => endJob(store, ends.succeeded(callbackUrl)),
    async to(target: SeekTarget) {
      return seek(deps, asked(), await planSeek(deps, 'notifier', target));
    },
    async undo() {
      const { undoes, moves } = await planUndo(deps, 'notifier');
      return seek(deps, { ...asked(), undoes }, moves);
    },
    /** The notifier reads until it has seen the end of one more job. */
    async read() {
      const running = await start(world, store, [group(store)]);
      const last = await endJob(store, ends.succeeded(callbackUrl));
      await until(async () => expect(await idsTold(store)).toContain(last));
      await running.stop();
      return last;
    },
  };
}

describe('A reactor whose cursor is moved', () => {
  it('to the end never reacts to what it was to pass over; undone, it does', async () => {
    const { store, end, to, undo, read } = await standing();
    const first = await read();
    const passed = [await end(), await end()];
    const [move] = await to({ kind: 'end' });
    expect(move).toMatchObject({ partition: 0, to: { seq: expect.any(Number) } });
    const second = await read();
    expect(await idsTold(store)).toEqual([first, second]);
    await undo();
    const third = await read();
    expect(await idsTold(store)).toEqual([first, second, ...passed, third]);
    await expect(undo()).rejects.toThrow('No seek of notifier is there to be undone.');
  });

  it('back, or to the beginning, does nothing twice', async () => {
    const { store, to, read } = await standing();
    const [first, second] = [await read(), await read()];
    await to({ kind: 'beginning' });
    expect(await cursorOf(store)).toBe('');
    const third = await read();
    await to({ kind: 'time', since: new Date(0) });
    const fourth = await read();
    expect(await idsTold(store)).toEqual([first, second, third, fourth]);
  });

  it('to a time reads again what was decided since', async () => {
    const { store, to } = await standing();
    await appendEvents(store, 0, 5);
    const later = new Date(Date.now() + 60_000);
    const [end] = await to({ kind: 'time', since: later });
    expect(end).toMatchObject({ partition: 0, from: { seq: 0 }, to: { seq: 5 } });
    expect(await to({ kind: 'time', since: later })).toEqual([]);
    const [begin] = await to({ kind: 'time', since: new Date(0) });
    expect(begin).toMatchObject({ from: { seq: 5 }, to: { seq: 0 } });
  });

  it('to a position goes on behind it, in that partition alone; to one that is not there, or was lost, never', async () => {
    const { store, to } = await standing();
    await appendEvents(store, 0, 5);
    await appendEvents(store, 1, 5);
    const at = (epoch: number, seq: number, partition = 1) =>
      to({ kind: 'positions', positions: [{ partition, epoch, seq }] });
    const epoch = Number((await store.reader.redis.hget(store.keys[1]?.meta ?? '', 'epoch')) ?? 0);
    expect(await at(epoch, 3)).toMatchObject([{ partition: 1, to: { epoch, seq: 3 } }]);
    await expect(at(epoch, 6)).rejects.toThrow('There is no event at');
    await expect(at(epoch, 1, 7)).rejects.toThrow('There is no partition 7.');
    await expect(at(epoch + 1, 2)).rejects.toThrow('was lost with Redis');
    expect(await cursorOf(store, 1)).toMatch(new RegExp(`^${epoch} 3 `));
  });

  it('by two at once is where one of them wanted it, in all partitions', async () => {
    const { store, to } = await standing();
    await Promise.all([appendEvents(store, 0, 20), appendEvents(store, 1, 20)]);
    await Promise.all(['end', 'beginning', 'end'].map((kind) => to({ kind: kind as 'end' | 'beginning' })));
    const cursors = await Promise.all([0, 1].map((partition) => cursorOf(store, partition)));
    const seqs = cursors.map((text) => Number(text?.split(' ')[1] ?? 0));
    expect([0, 20]).toContain(seqs[0]);
    expect(seqs[1]).toBe(seqs[0]);
  });

  it('goes where it was to go in partitions, too, that were there when it was planned', async () => {
    const { store, deps, to } = await standing();
    await Promise.all([appendEvents(store, 0, 20), appendEvents(store, 1, 20)]);
    const planned = await planSeek(deps, 'notifier', { kind: 'beginning' });
    await to({ kind: 'end' });
    const asked = { reactor: 'notifier', operation: 'op-late', by: 'test', reason: 'a test' };
    expect(await seek(deps, asked, planned)).toHaveLength(2);
    expect(await Promise.all([0, 1].map((partition) => cursorOf(store, partition)))).toEqual(['', '']);
    expect(await seek(deps, asked, planned)).toEqual([]);
  });

  it('while it reads is fenced, and goes on from there', async () => {
    const { world, store, end, to } = await standing();
    await appendEvents(store, 0, 50);
    const reading = await start(world, await openStore(world), [group(store)]);
    await end();
    await until(async () => expect(await idsTold(store)).toHaveLength(1));
    await to({ kind: 'beginning' });
    await end();
    await until(async () => expect(await idsTold(store)).toHaveLength(2), 20_000);
    await reading.stop();
    expect(new Set(await idsTold(store)).size).toBe(2);
  });

  it('stays there when Redis is made anew: what it passed over stays passed over', async () => {
    const { world, store, pool, ledger, end, to, read } = await standing();
    await read();
    const passed = await end();
    await to({ kind: 'end' });
    await ledger.stop();
    for (const { meta } of store.keys) await store.writer.redis.unlink(meta);
    await until(() => expect(store.fencedBecause()).toBeDefined());
    await recover(
      {
        ...{ db: world.db, pool, connection: store.writer, prefix: world.prefix, keys: store.keys },
        ...{
          retentionMs: 60_000,
          reactors: ['notifier'],
          rewind: async () => {},
          forgetReads: async () => {},
        },
      },
      { by: 'test', reason: 'a test' },
    );
    await until(() => expect(store.fencedBecause()).toBeUndefined());
    await read();
    expect(await idsTold(store)).not.toContain(passed);
    expect((await idsTold(store)).length).toBeGreaterThanOrEqual(2);
  });
});
