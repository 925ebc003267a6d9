import { expect, test } from 'vitest';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { GENESIS, type HashedEvent, hashBatch } from '../../src/eventstore/ledger-hash.ts';

const event = (seq: number, data: string): HashedEvent => ({
  seq,
  epoch: 1,
  version: seq,
  id: `event-${seq}` as EventId,
  streamId: 'job-3-abc' as StreamId,
  type: 'JobEnqueued',
  data,
  meta: '{"at":"2026-01-01T00:00:00.000Z"}',
});

test('the hashes of batches are what they have always been: stored chains depend on it', () => {
  const first = hashBatch(GENESIS, [event(1, '{}'), event(2, '{"é":"x"}')]);
  expect(first.toString('hex')).toBe('12e25d88588e66e3a2f9a75beceaf7aa017d46cac95e2f38f722e0cabaf32beb');
  expect(hashBatch(first, [event(3, '{}')]).toString('hex')).toBe(
    'ec024e87cac3a8c6b3f88a5e3ebcdeb57a215b192933848fa07c513dfcf9dbfd',
  );
});

test('a batch has another hash behind another history', () => {
  const one = hashBatch(GENESIS, [event(1, '{}')]);
  const other = hashBatch(GENESIS, [event(1, '{ }')]);
  expect(hashBatch(one, [event(2, '{}')])).not.toEqual(hashBatch(other, [event(2, '{}')]));
});
