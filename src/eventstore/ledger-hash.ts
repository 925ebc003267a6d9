import { createHash } from 'node:crypto';
import type { RawEvent } from '../domain/event.ts';

/** What the first batch of a partition has for a predecessor: 32 zero bytes. */
export const GENESIS: Buffer = Buffer.alloc(32);

export type HashedEvent = Omit<RawEvent, 'partition'>;

/**
 * The hash of a batch: SHA-256 over the previous batch's hash and every event of this one, so that the last
 * hash of a partition speaks for all of its history. To recompute it, read the rows of
 * `ledger` from `first_seq` to `last_seq` of the row in `ledger_batches`, in order of seq.
 *
 * The bytes that are hashed, integers unsigned and big-endian, texts as UTF-8:
 *
 * | bytes | what |
 * |---|---|
 * | 32 | hash of the batch before, `GENESIS` for the first |
 * | then, for each event: | |
 * | 8 | seq |
 * | 4 | epoch |
 * | 4 | version |
 * | 4 + n | length of the event id in bytes, event id |
 * | 4 + n | length, stream id |
 * | 4 + n | length, type |
 * | 4 + n | length, data |
 * | 4 + n | length, meta |
 *
 * Lengths stand before the texts so that no byte can move from one field to the next unseen. Stored hashes
 * depend on this layout: it is fixed for life.
 */
export function hashBatch(previous: Uint8Array, events: readonly HashedEvent[]): Buffer {
  const hash = createHash('sha256').update(previous);
  for (const event of events) hash.update(bytesOf(event));
  return hash.digest();
}

function bytesOf(event: HashedEvent): Buffer {
  const texts = [event.id, event.streamId, event.type, event.data, event.meta];
  const lengths = texts.map((text) => Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(16 + lengths.reduce((sum, length) => sum + 4 + length, 0));
  bytes.writeBigUInt64BE(BigInt(event.seq), 0);
  bytes.writeUInt32BE(event.epoch, 8);
  bytes.writeUInt32BE(event.version, 12);
  let at = 16;
  for (const [index, text] of texts.entries()) {
    at = bytes.writeUInt32BE(lengths[index] ?? 0, at);
    at += bytes.write(text, at);
  }
  return bytes;
}
