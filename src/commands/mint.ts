import type { Fold } from '../domain/decision.ts';
import { parseStreamId, type StreamId, type StreamKind, streamId } from '../domain/ids.ts';
import type { Loaded } from '../eventstore/types.ts';
import type { CommandContext, CommandDeps } from './handle.ts';

/** A partition for what belongs to none: each is as likely as any other. */
export function anyPartition({ randomText, store }: Pick<CommandDeps, 'randomText' | 'store'>): number {
  let drawn = 0;
  // 62^6: what is over favours the first partitions by less than one in fifty million.
  for (const letter of randomText(6)) drawn = drawn * 62 + DIGITS.indexOf(letter);
  return drawn % store.partitions;
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/**
 * Mints the id of what a request makes. With an idempotency key, a first claim in the partition of the key
 * fixes the id, so that a retry, even after a crash right here, finds the same target.
 * `fresh` says that nobody but this request can know the id: nothing can be there yet.
 */
export async function mintId(
  deps: CommandDeps,
  context: CommandContext,
  kind: StreamKind,
  partition: number,
): Promise<{ ok: true; id: StreamId; fresh: boolean } | { ok: false }> {
  const minted = streamId(kind, partition, deps.randomText(20));
  const { idempotency } = context;
  if (!idempotency) return { ok: true, id: minted, fresh: true };
  const outcome = await deps.store.commit({
    partition: mintedIn(idempotency.key, deps.store.partitions),
    appends: [],
    claim: {
      key: mintKey(idempotency.key),
      fingerprint: idempotency.fingerprint,
      answer: minted,
      retentionMs: deps.idempotencyRetentionMs,
    },
  });
  if (outcome.kind === 'committed') return { ok: true, id: minted, fresh: true };
  if (outcome.kind !== 'replayed') return { ok: false };
  const id = parseStreamId(outcome.answer, kind);
  if (!id) throw new Error(`the claim of this key holds ${outcome.answer}, not an id of kind ${kind}`);
  return { ok: true, id, fresh: false };
}

/** Where the claim lies that fixes what a key mints. */
export function mintedIn(key: string, partitions: number): number {
  return Number.parseInt(key.slice(0, 8), 16) % partitions;
}

/** Its name: another than that of the command's own claim, since the target may live in that partition, too. */
export function mintKey(key: string): string {
  return `mint-${key}`;
}

/** A stream to decide on: known to be empty when the request itself minted the id, loaded otherwise. */
export async function streamFor<S, E>(
  deps: CommandDeps,
  id: StreamId,
  fold: Fold<S, E>,
  fresh: boolean,
): Promise<Loaded<S> & { readonly streamId: StreamId }> {
  if (fresh)
    return { streamId: id, state: fold.initial, version: 0, lastSeq: 0, expected: { kind: 'minted' } };
  return { streamId: id, ...(await deps.store.load(id, fold)) };
}
