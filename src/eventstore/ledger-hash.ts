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

/** Three bytes of UTF-8 are the most that a UTF-16 unit takes. */
const BYTES_OF_A_UNIT = 3;
const KEPT_BYTES = 64 * 1024;
/** Written anew for each event: its bytes are hashed at once. */
const scratch = Buffer.allocUnsafe(KEPT_BYTES);

function bytesOf({ seq, epoch, version, id, streamId, type, data, meta }: HashedEvent): Buffer {
  const units = id.length + streamId.length + type.length + data.length + meta.length;
  const most = 16 + 5 * 4 + BYTES_OF_A_UNIT * units;
  const bytes = most > KEPT_BYTES ? Buffer.allocUnsafe(most) : scratch;
  bytes.writeUInt32BE(Math.floor(seq / 2 ** 32), 0);
  bytes.writeUInt32BE(seq >>> 0, 4);
  bytes.writeUInt32BE(epoch, 8);
  bytes.writeUInt32BE(version, 12);
  let at = writeText(bytes, id, 16);
  at = writeText(bytes, streamId, at);
  at = writeText(bytes, type, at);
  at = writeText(bytes, data, at);
  return bytes.subarray(0, writeText(bytes, meta, at));
}

function writeText(bytes: Buffer, text: string, at: number): number {
  const length = bytes.write(text, at + 4);
  bytes.writeUInt32BE(length, at);
  return at + 4 + length;
}
