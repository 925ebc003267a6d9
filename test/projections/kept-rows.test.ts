import { describe, expect, it } from 'vitest';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import type { Checkpoint } from '../../src/eventstore/types.ts';
import { beginsRow, keptRows } from '../../src/projections/kept-rows.ts';
import type { ParkedEvent } from '../../src/projections/parked.ts';

type Row = { id: string; text: string };

const at = (seq: number, eventId = `e${seq}`): Checkpoint => ({ epoch: 1, seq, eventId: eventId as EventId });
const move = (from: number, to: number) => ({ from: at(from), to: at(to) });
const none = { rows: new Map<string, Row>(), blocked: new Set<string>() };
const rows = (...given: readonly [string, string][]) =>
  new Map(given.map(([id, text]): [string, Row] => [id, { id, text }]));

describe('Rows at hand', () => {
  it('are what the last batch read and wrote, as long as the checkpoint is where it ended', () => {
    const kept = keptRows<Row>();
    kept.moved(move(0, 2), { ...none, rows: rows(['a', 'old'], ['b', 'read']) }, rows(['a', 'new']), []);
    expect(Object.fromEntries(kept.at(at(2)))).toEqual({
      a: { id: 'a', text: 'new' },
      b: { id: 'b', text: 'read' },
    });
  });

  it.each([
    ['another seq', at(3)],
    ['another event there: the log was made anew', at(2, 'other')],
  ])('are gone where the batch begins at %s', (_what, from) => {
    const kept = keptRows<Row>();
    kept.moved(move(0, 2), none, rows(['a', '']), []);
    expect(kept.at(from).size).toBe(0);
    expect(kept.at(at(2)).size).toBe(0);
  });

  it('are never those that have parked events', () => {
    const kept = keptRows<Row>();
    kept.moved(move(0, 1), none, rows(['a', ''], ['b', '']), []);
    const event = { partition: 0, epoch: 1, seq: 2, id: 'e2' as EventId, type: 'T', data: '{', meta: '{}' };
    const parked: ParkedEvent = {
      event: { ...event, streamId: 'a' as StreamId, version: 2 },
      rowKey: 'a',
      because: 'decode',
      error: 'no JSON',
    };
    kept.moved(move(1, 2), { ...none, blocked: new Set(['b']) }, rows(['c', '']), [parked]);
    expect([...kept.at(at(2)).keys()]).toEqual(['c']);
  });

  it('are few, and small together: those that nobody asked for longest go first', () => {
    const kept = keptRows<Row>();
    kept.moved(move(0, 1), none, rows(['a', ''], ['b', '']), []);
    const many = Array.from({ length: 2_998 }, (_, n): [string, string] => [`row-${n}`, '']);
    kept.moved(move(1, 2), none, rows(...many), []);
    kept.moved(move(2, 3), none, rows(['a', 'again']), []);
    kept.moved(move(3, 4), none, rows(['c', '']), []);
    expect([kept.at(at(4)).size, kept.at(at(4)).has('a'), kept.at(at(4)).has('b')]).toEqual([
      3_000,
      true,
      false,
    ]);
    kept.moved(move(4, 5), none, rows(['d', 'x'.repeat(999_000)]), []);
    expect(kept.at(at(5)).size).toBeLessThan(300);
    expect(kept.at(at(5)).has('d')).toBe(true);
  });
});

describe('A row that need not be looked for', () => {
  const event = { partition: 0, epoch: 1, seq: 1, id: 'e1' as EventId, type: 'T', data: '{}', meta: '{}' };
  const first = { ...event, streamId: 'job-00a' as StreamId, version: 1 };

  it('is that of the first event of the one stream that it follows from', () => {
    expect(beginsRow({}, 'job-00a', first)).toBe(true);
  });

  it('is no other: later events, rows of another name, and rows of several streams have a past', () => {
    expect(beginsRow({}, 'job-00a', { ...first, version: 2 })).toBe(false);
    expect(beginsRow({}, 'exp-00a', first)).toBe(false);
    expect(beginsRow({ streamsOf: () => [] }, 'job-00a', first)).toBe(false);
  });
});
