import { randomBytes } from 'node:crypto';
import { partitionOf, type StreamId } from '../domain/ids.ts';
import type { PartitionKeys } from './partitions.ts';
import type { CommitRequest, Work } from './types.ts';

/** A request as `commit.lua` takes it, and what its reply doesn't say because it is known before. */
export type EncodedCommit = {
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
  /** Versions of the streams after the commit, in the order of its appends. */
  readonly versions: readonly number[];
  readonly streams: readonly StreamId[];
  /** The claim is this commit's alone: found taken, it was taken by an earlier sending of the same commit. */
  readonly ownClaim: boolean;
};

/** How long a claim lives that only guards a commit against its own retry; longer than anyone asks again. */
const OWN_CLAIM_MS = 15_000;

/**
 * Flattens a request into the keys and arguments of `commit.lua`. Throws on what no caller may ask for: a stream
 * of another partition, a stream twice, an append without events, a fingerprint with spaces.
 */
export function encodeCommit(names: PartitionKeys, request: CommitRequest): EncodedCommit {
  const { lease, claim, appends, work = [], timers = [], finished = [] } = request;
  const keys: string[] = [];
  const args: (string | number)[] = [0, 0, lease ? lease.token : ''];
  if (lease) keys.push(names.lease(lease.group));

  if (claim) {
    if (claim.fingerprint === '' || claim.fingerprint.includes(' ')) {
      throw new Error(`"${claim.fingerprint}" is no fingerprint: it must have no spaces`);
    }
    keys.push(names.claim(claim.key));
    args.push(claim.fingerprint, claim.answer, claim.retentionMs);
  } else {
    keys.push(names.claim(`own-${randomKey()}`));
    args.push('-', '', OWN_CLAIM_MS);
  }

  args.push(appends.length);
  const versions: number[] = [];
  for (const [index, append] of appends.entries()) {
    const { streamId, expected, events, state } = append;
    if (partitionOf(streamId) !== request.partition) {
      throw new Error(`${streamId} is not of partition ${request.partition}`);
    }
    for (let earlier = 0; earlier < index; earlier++) {
      // The second would be checked against the version before the first.
      if (appends[earlier]?.streamId === streamId) throw new Error(`a commit appends to ${streamId} twice`);
    }
    if (events.length === 0) throw new Error(`a commit appends nothing to ${streamId}`);
    keys.push(names.state(streamId));
    const loaded = expected.kind === 'loaded';
    args.push(
      streamId,
      loaded ? expected.version : '-',
      loaded ? (expected.scannedTo ?? '-') : '-',
      `${state.fold} ${state.json}`,
      events.length,
    );
    for (const event of events) args.push(event.id, event.type, event.data, event.meta);
    versions.push((loaded ? expected.version : 0) + events.length);
  }

  args.push(work.length);
  for (const item of work) {
    keys.push(names.work(item.queue, item.priority));
    args.push(item.jobId, item.type, item.dueAt, item.traceparent ?? '');
  }
  args.push(timers.length);
  if (timers.length > 0) keys.push(names.timers, names.timerWork);
  for (const item of timers) args.push(item.jobId, item.dueAt, encodeTimer(item));
  args.push(finished.length);
  for (const item of finished) {
    keys.push(names.work(item.queue, item.priority));
    args.push(item.entryId);
  }

  args[0] = keys.length;
  args[1] = args.length - 2;
  return {
    keys,
    args,
    versions,
    streams: appends.map((append) => append.streamId),
    ownClaim: claim === undefined,
  };
}

/** Work as `timers:work` keeps it: `<queue> <priority> <type> <due> <traceparent>`, the last may be empty. */
export function encodeTimer({ queue, priority, type, dueAt, traceparent = '' }: Work): string {
  return `${queue} ${priority} ${type} ${dueAt} ${traceparent}`;
}

let pool = Buffer.alloc(0);
let used = 0;

/** 96 random bits. Random bytes are fetched in bulk: one call for each would cost as much as the rest. */
function randomKey(): string {
  if (used + 12 > pool.length) {
    pool = randomBytes(12 * 256);
    used = 0;
  }
  used += 12;
  return pool.toString('base64url', used - 12, used);
}
