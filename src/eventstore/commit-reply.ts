import type { EncodedCommit } from './commit-request.ts';
import { type CommitOutcome, MemoryGuardError, StoreUnavailableError } from './types.ts';

/**
 * One commit's part of the reply to its call.
 * @param items as `commit.lua` documents them
 * @param index of the commit in its call
 */
export function readOutcome(
  { versions, streams }: Pick<EncodedCommit, 'versions' | 'streams'>,
  partition: number,
  items: readonly unknown[],
  index: number,
): CommitOutcome | Error {
  const epoch = Number(items[0]);
  const [code, value] = [items[2 * index + 1], items[2 * index + 2]];
  switch (code) {
    case 0:
      return { kind: 'committed', position: { partition, epoch, seq: Number(value) }, versions };
    case 1: {
      const [, ofEpoch, seq, answer = ''] = /^(\d+) (\d+) (.*)$/s.exec(String(value)) ?? [];
      return { kind: 'replayed', position: { partition, epoch: Number(ofEpoch), seq: Number(seq) }, answer };
    }
    case 2:
      return { kind: 'claim_reused' };
    case 3: {
      const streamId = streams[Number(value)];
      return streamId
        ? { kind: 'conflict', streamId }
        : new Error('commit.lua named no stream of the commit');
    }
    case 4:
      return { kind: 'lease_lost' };
    default:
      return new Error(`commit.lua answered ${code}, which it never should`);
  }
}

/** Errors that Redis gives before a script runs. */
const REFUSALS = new Set(
  'LOADING BUSY READONLY MISCONF NOREPLICAS MASTERDOWN CLUSTERDOWN TRYAGAIN MOVED ASK NOAUTH NOPERM'.split(
    ' ',
  ),
);

/** What a failed call means for its commits. */
export type Failure =
  /** Nothing was carried out, for this reason. */
  | { readonly kind: 'not_done'; readonly error: StoreUnavailableError }
  /** Nothing was carried out: what the partition trusts has changed, or the script is not loaded. */
  | { readonly kind: 'fenced' | 'script_lost' }
  /** It was sent, and no reply came. */
  | { readonly kind: 'unknown' }
  /** The script broke: a bug. */
  | { readonly kind: 'broken' };

export function readFailure(error: Error): Failure {
  const { message } = error;
  if (error.name !== 'ReplyError') {
    // Refused by the client before it was sent.
    if (!message.startsWith("Stream isn't writeable")) return { kind: 'unknown' };
    return { kind: 'not_done', error: new StoreUnavailableError('Redis is not reachable') };
  }
  const code = message.split(' ', 1)[0] ?? '';
  if (code === 'FENCED') return { kind: 'fenced' };
  if (code === 'NOSCRIPT') return { kind: 'script_lost' };
  if (code === 'OOM') return { kind: 'not_done', error: new MemoryGuardError('Redis is out of memory') };
  if (!REFUSALS.has(code)) return { kind: 'broken' };
  return { kind: 'not_done', error: new StoreUnavailableError(`Redis refuses commits: ${message}`) };
}
