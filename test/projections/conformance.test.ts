import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FencedError } from '../../src/eventstore/types.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels, start, subjects, writeLedger } from './support/harness.ts';
import { history } from './support/histories.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 });
const runs = { numRuns: 25 };

it('every projection passes this suite', () => {
  const folder = join(import.meta.dirname, '..', '..', 'src', 'projections');
  const tables = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => [...readFileSync(join(folder, path), 'utf8').matchAll(/^ {2}table: '(\w+)'/gm)])
    .map((match) => match[1]);
  expect(subjects.map((subject) => subject.table).sort()).toEqual(tables.sort());
});

describe.each(subjects)('the read model $name', (subject) => {
  it('names the columns of its table, and their types, as the migration made them', async () => {
    const found = await sql<{ name: string; type: string }>`
      SELECT attname AS name, format_type(atttypid, atttypmod) AS type
      FROM pg_attribute WHERE attrelid = ${subject.table}::regclass AND attnum > 0 AND NOT attisdropped
    `.execute(world.db);
    const long: Record<string, string> = { int: 'integer', timestamptz: 'timestamp with time zone' };
    const said = Object.entries(subject.columns).map(([name, type]) => [name, long[type] ?? type]);
    expect(Object.fromEntries(found.rows.map(({ name, type }) => [name, type]))).toEqual(
      Object.fromEntries(said),
    );
  });

  it('holds the fold of all events, however they were batched and interleaved over partitions', async () => {
    const example = fc.asyncProperty(history(0), history(1), sizes, async (one, other, sizes) => {
      await emptyReadModels(world);
      const group = subject.group(world);
      await Promise.all([applyAll(group, one, 1, sizes), applyAll(group, other, 2, sizes)]);
      expect(await subject.stored(world)).toEqual(subject.expected([...one, ...other]));
    });
    await fc.assert(example, runs);
  });

  it('takes no event twice: a batch that comes again is refused, and changes nothing', async () => {
    const example = fc.asyncProperty(history(0), sizes, async (events, sizes) => {
      await emptyReadModels(world);
      const group = subject.group(world);
      let at = await group.open(0, 1);
      for (let turn = 0; at.seq < events.length; turn++) {
        const batch = events.slice(at.seq, at.seq + (sizes[turn % sizes.length] ?? 1));
        const next = await group.apply(0, at, batch, 1);
        await expect(group.apply(0, at, batch, 1)).rejects.toThrow(FencedError);
        at = next;
      }
      await expect(group.apply(0, start, events, 1)).rejects.toThrow(FencedError);
      expect(await subject.stored(world)).toEqual(subject.expected(events));
    });
    await fc.assert(example, runs);
  });

  it('goes on where it stood when its owner dies between any two batches', async () => {
    const example = fc.asyncProperty(history(0), fc.integer({ min: 1, max: 5 }), async (events, size) => {
      await emptyReadModels(world);
      let token = 1;
      for (let seq = 0; seq < events.length; token++) {
        const group = subject.group(world);
        const at = await group.open(0, token);
        expect(at.seq).toBe(seq);
        seq = (await group.apply(0, at, events.slice(seq, seq + size), token)).seq;
      }
      expect(await subject.stored(world)).toEqual(subject.expected(events));
    });
    await fc.assert(example, runs);
  });

  it('is the same once it was rebuilt, however often that was cut off, while events went on arriving', async () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 });
    const example = fc.asyncProperty(
      ...[history(0), history(1), cuts, fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 6 })],
      async (one, other, cuts, page, rowsAtHand) => {
        await emptyReadModels(world);
        const logs = [one, other];
        const group = subject.group(world);
        for (const log of logs) await applyAll(group, log, 1, [7]);
        // The ledger has the first half when the rebuild begins.
        const half = (log: typeof one) => Math.ceil(log.length / 2);
        for (const log of logs) await writeLedger(world, log.slice(0, half(log)));
        const rebuild = await subject.begin(world, 2);
        const writeEveryMs = rowsAtHand % 2 === 0 ? 0 : 1_000;
        const charactersAtHand = rowsAtHand === 5 ? 300 : 32_000_000;
        const options = { parks: false, page, rowsAtHand, charactersAtHand, writeEveryMs };
        const never = new AbortController().signal;
        for (const [partition] of logs.entries()) {
          for (const pages of cuts) {
            const cut = new AbortController();
            let left = pages;
            const pace = async () => void (--left === 0 && cut.abort());
            await subject.fill(world, rebuild, partition, 1, { ...options, pace, signal: cut.signal });
          }
          await subject.fill(world, rebuild, partition, 1, {
            ...options,
            pace: async () => {},
            signal: never,
          });
        }
        if ((await subject.swap(world, rebuild)) === 'behind') {
          for (const log of logs) await writeLedger(world, log.slice(half(log)));
          for (const [partition] of logs.entries()) {
            const all = { ...options, pace: async () => {}, signal: never };
            await subject.fill(world, rebuild, partition, 1, all);
          }
          expect(await subject.swap(world, rebuild)).toBe('swapped');
        } else expect(logs.map((log) => log.length)).toEqual([1, 1]);
        const is = await subject.stored(world);
        expect(is).toEqual(subject.expected([...one, ...other]));
        const { rows } = await sql`SELECT FROM rebuilds WHERE ended_at IS NULL`.execute(world.db);
        expect(rows).toEqual([]);
      },
    );
    await fc.assert(example, { numRuns: 5, endOnFailure: true });
  });
});
