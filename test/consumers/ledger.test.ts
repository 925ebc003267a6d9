import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { LedgerForkError } from '../../src/consumers/ledger-errors.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { GENESIS, hashBatch } from '../../src/eventstore/ledger-hash.ts';
import { readLedger } from '../../src/eventstore/ledger-read.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { type Checkpoint, FencedError } from '../../src/eventstore/types.ts';
import { createWorld } from '../support/world.ts';

const START: Checkpoint = { epoch: 0, seq: 0, eventId: null };
const AT = '2026-11-20T12:34:56.789Z';

async function openLedger() {
  const world = await createWorld();
  const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
  onTestFinished(async () => {
    await pool.end();
    await world.dispose();
  });
  const ledger = createLedger(pool, world.db);
  await ledger.open(0, 1);
  return { ...world, ledger, pool };
}

function event(seq: number, more: Partial<RawEvent> = {}): RawEvent {
  return {
    partition: 0,
    epoch: 1,
    seq,
    id: `event-${seq}` as EventId,
    streamId: `job-00stream${seq}` as StreamId,
    version: 1,
    type: 'JobEnqueued',
    data: `{"n": ${seq},  "x":"é\\u0041"}`,
    meta: JSON.stringify({ schema: 1, at: AT, actor: 'a', owner: 'acc-1', correlation: 'c-1' }),
    ...more,
  };
}

const events = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => event(from + index));

describe('The ledger', () => {
  it('keeps the exact bytes of every event, and by whom and when it was', async () => {
    const { ledger, db } = await openLedger();
    const batch = [
      event(1),
      event(2, { data: '{ "a" : 1e3, "b":"\\u0000\\ud800 \\"quoted\\" \\\\ back", "a": 2 }' }),
      event(3, { data: `"${randomBytes(5_000).toString('base64')} — ✓ 🎉"` }),
    ];
    const checkpoint = await ledger.apply(0, START, batch, 1);
    expect(checkpoint).toEqual({ epoch: 1, seq: 3, eventId: 'event-3' });
    expect(await readLedger(db, { partition: 0, after: 0, limit: 10 })).toEqual(batch);
    const row = await db.selectFrom('ledger').selectAll().where('seq', '=', 1).executeTakeFirstOrThrow();
    expect(row).toMatchObject({ owner: 'acc-1', correlation: 'c-1', recorded_at: new Date(AT) });
  });

  it('is not stopped by what it cannot read, nor by what Postgres cannot take', async () => {
    const { ledger, db } = await openLedger();
    const batch = [
      event(1, { meta: 'no json' }),
      event(2, { meta: '{"at":"+275760-09-13T00:00:00.000Z","owner":7}' }),
      event(3, { meta: JSON.stringify({ at: 'never', owner: `a${'o'.repeat(100_000)}` }) }),
      event(4, { data: '"raw \u0000 zero"', type: 'Odd\u0000\ud800Type' }),
    ];
    await ledger.apply(0, START, batch, 1);
    const rows = await readLedger(db, { partition: 0, after: 0, limit: 10 });
    expect(rows.map(({ data }) => data).at(-1)).toBe('"raw \\u0000 zero"');
    expect(rows.at(-1)?.type).toBe('Odd\ufffd\ufffdType');
  });

  it('has a hash chain that is recomputed from its rows, and breaks when one byte changes', async () => {
    const { ledger, db } = await openLedger();
    let checkpoint = await ledger.apply(0, START, events(1, 3), 1);
    checkpoint = await ledger.apply(0, checkpoint, events(4, 4), 1);
    await createLedgerAgain();
    const verify = async () => {
      let previous: Buffer = GENESIS;
      for (const batch of await db.selectFrom('ledger_batches').selectAll().orderBy('last_seq').execute()) {
        const rows = await readLedger(db, {
          partition: 0,
          after: batch.first_seq - 1,
          upTo: batch.last_seq,
          limit: 1000,
        });
        const hash = hashBatch(previous, rows);
        if (!batch.previous.equals(previous) || !batch.hash.equals(hash))
          return `broken at ${batch.last_seq}`;
        previous = hash;
      }
      return 'whole';
    };
    expect(await verify()).toBe('whole');
    await db.updateTable('ledger').set({ data: '{"n": 2,  "x":"éA"}' }).where('seq', '=', 2).execute();
    expect(await verify()).toBe('broken at 3');

    /** Another owner goes on with the chain that it finds. */
    async function createLedgerAgain() {
      await ledger.open(0, 2);
      checkpoint = await ledger.apply(0, checkpoint, events(5, 6), 2);
    }
  });

  it('passes over events that come again', async () => {
    const { ledger, db } = await openLedger();
    const checkpoint = await ledger.apply(0, START, events(1, 3), 1);
    expect(await ledger.apply(0, checkpoint, events(2, 5), 1)).toMatchObject({ seq: 5 });
    expect(
      await ledger.apply(0, { ...checkpoint, seq: 5, eventId: 'event-5' as EventId }, events(1, 5), 1),
    ).toMatchObject({
      seq: 5,
    });
    expect(await db.selectFrom('ledger').select('seq').execute()).toHaveLength(5);
  });

  it('stops at another event where it has one already', async () => {
    const { ledger } = await openLedger();
    const checkpoint = await ledger.apply(0, START, events(1, 3), 1);
    const forked = [event(3, { id: 'another' as EventId }), event(4)];
    await expect(ledger.apply(0, checkpoint, forked, 1)).rejects.toThrow(LedgerForkError);
  });

  it('stops where a stream does not continue the version that it has', async () => {
    const { ledger, db } = await openLedger();
    const stream = 'job-00same' as StreamId;
    const first = event(1, { streamId: stream });
    let checkpoint = await ledger.apply(0, START, [first, event(2, { streamId: stream, version: 2 })], 1);
    const next = (version: number) => [event(3, { streamId: stream, version })];
    await expect(ledger.apply(0, checkpoint, next(4), 1)).rejects.toThrow(LedgerForkError);
    await expect(ledger.apply(0, checkpoint, next(2), 1)).rejects.toThrow(LedgerForkError);
    await expect(ledger.apply(0, checkpoint, next(1), 1)).rejects.toThrow(LedgerForkError);
    expect(await db.selectFrom('ledger').select('seq').execute()).toHaveLength(2);
    checkpoint = await ledger.apply(0, checkpoint, next(3), 1);
    expect(checkpoint.seq).toBe(3);
  });

  it('takes nothing from an owner that was replaced, nor from a checkpoint that has moved', async () => {
    const { ledger, db } = await openLedger();
    await ledger.open(0, 7);
    await expect(ledger.apply(0, START, events(1, 1), 1)).rejects.toThrow(FencedError);
    await expect(ledger.open(0, 6)).rejects.toThrow(FencedError);
    await ledger.apply(0, START, events(1, 2), 7);
    await expect(ledger.apply(0, START, events(1, 2), 7)).rejects.toThrow(FencedError);
    expect(await db.selectFrom('ledger').select('seq').execute()).toHaveLength(2);
  });
});
