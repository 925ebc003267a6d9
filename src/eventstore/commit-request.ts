import { partitionOf, type StreamId } from '../domain/ids.ts';
import { encodeLogEntry } from './log.ts';
import type { PartitionKeys } from './partitions.ts';
import type { Argument } from './script-call.ts';
import type { AppendToStream, CommitRequest } from './types.ts';
import { encodeTimer, encodeWork, KEYED_PRIORITY, workOfJob } from './work-text.ts';

/** A request as `commit.lua` takes it, and what its reply doesn't say because it is known before. */
export type EncodedCommit = {
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  /** Versions of the streams after the commit, in the order of its appends. */
  readonly versions: readonly number[];
  readonly streams: readonly StreamId[];
  /** About the size of its events, which is what a call's time in Redis grows with. */
  readonly bytes: number;
};

/**
 * Flattens a request into the keys and arguments of `commit.lua`. Throws on what no caller may ask for: a stream
 * of another partition, a stream twice, an append without events, a fingerprint with spaces.
 */
export function encodeCommit(names: PartitionKeys, request: CommitRequest): EncodedCommit {
  const { lease, cursor, claim, appends, ticks, work, freed, timers, cancelledTimers, finished } = request;
  const keys: string[] = [];
  const args: Argument[] = [0, 0, ''];
  let shape = '';
  if (lease) {
    shape += 'l';
    keys.push(names.lease(lease.group));
    args.push(lease.token);
  }
  if (cursor) {
    shape += 'u';
    keys.push(names.cursor(cursor.reactor));
    args.push(cursor.from, cursor.to);
  }
  if (claim) {
    if (claim.fingerprint === '' || claim.fingerprint.includes(' ')) {
      throw new Error(`"${claim.fingerprint}" is no fingerprint: it must have no spaces`);
    }
    shape += 'c';
    keys.push(names.claim(claim.key));
    args.push(claim.fingerprint, claim.answer, claim.retentionMs);
  }
  const { versions, streams, bytes } = encodeAppends(names, appends, keys, args);
  if (ticks && ticks.length > 0) {
    shape += 's';
    keys.push(names.ticks);
    args.push(ticks.length);
    for (const { scheduleId, at } of ticks) args.push(scheduleId, at ?? '-');
  }
  const unkeyed = work?.filter(({ lane }) => lane === undefined);
  if (unkeyed && unkeyed.length > 0) {
    shape += 'w';
    args.push(unkeyed.length);
    for (const item of unkeyed) {
      keys.push(names.work(item.queue, item.priority));
      args.push(encodeWork(item));
    }
  }
  const keyed = work?.filter(({ lane }) => lane !== undefined);
  if (keyed && keyed.length > 0) {
    shape += 'k';
    keys.push(names.timers, names.timerWork);
    args.push(keyed.length);
    for (const item of keyed) {
      keys.push(names.work(item.queue, item.priority));
      args.push(item.jobId, `${item.queue} ${item.priority}`, workOfJob(item));
    }
  }
  if (timers && timers.length > 0) {
    shape += 't';
    keys.push(names.timers, names.timerWork);
    args.push(timers.length);
    for (const item of timers) args.push(item.jobId, item.wakeAt ?? item.dueAt, encodeTimer(item));
  }
  if (cancelledTimers && cancelledTimers.length > 0) {
    shape += 'x';
    keys.push(names.timers, names.timerWork);
    args.push(cancelledTimers.length, ...cancelledTimers);
  }
  if (finished && finished.length > 0) {
    shape += 'f';
    args.push(finished.length);
    for (const item of finished) {
      keys.push(names.work(item.queue, item.priority));
      args.push(item.entryId);
    }
  }
  if (freed && freed.length > 0) {
    shape += 'r';
    args.push(freed.length);
    for (const { queue, lane, jobId, dueAt } of freed) {
      keys.push(names.blocked(queue), names.parked(queue, lane), names.work(queue, KEYED_PRIORITY));
      args.push(lane, jobId, dueAt ?? '');
    }
  }
  args[0] = keys.length;
  args[1] = args.length - 2;
  args[2] = shape;
  return { keys, args, versions, streams, bytes };
}

function encodeAppends(
  names: PartitionKeys,
  appends: readonly AppendToStream[],
  keys: string[],
  args: Argument[],
): Pick<EncodedCommit, 'versions' | 'streams' | 'bytes'> {
  const versions: number[] = [];
  const streams: StreamId[] = [];
  let bytes = 0;
  args.push(appends.length);
  for (const { streamId, expected, events, state } of appends) {
    if (partitionOf(streamId) !== names.partition) {
      throw new Error(`${streamId} is not of partition ${names.partition}`);
    }
    // The second would be checked against the version before the first.
    if (streams.includes(streamId)) throw new Error(`a commit appends to ${streamId} twice`);
    if (events.length === 0) throw new Error(`a commit appends nothing to ${streamId}`);
    const loaded = expected.kind === 'loaded';
    let version = loaded ? expected.version : 0;
    keys.push(names.state(streamId));
    args.push(
      loaded ? version : '-',
      loaded ? (expected.scannedTo ?? '-') : '-',
      version + events.length,
      `${state.fold} ${state.json}`,
      events.length,
    );
    for (const event of events) {
      version++;
      bytes += event.data.length + event.meta.length;
      args.push(encodeLogEntry(streamId, version, event));
    }
    versions.push(version);
    streams.push(streamId);
  }
  return { versions, streams, bytes };
}
