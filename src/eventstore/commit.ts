import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'ioredis';
import { type EncodedCommit, encodeCommit } from './commit-request.ts';
import { type Connection, type Script, script } from './connections.ts';
import type { Fence } from './fence.ts';
import type { MemoryGuard } from './memory-guard.ts';
import type { PartitionKeys } from './partitions.ts';
import {
  type CommitOutcome,
  type CommitRequest,
  MemoryGuardError,
  OutcomeUnknownError,
  StoreFencedError,
  StoreUnavailableError,
} from './types.ts';

const body = readFileSync(join(import.meta.dirname, 'commit.lua'), 'utf8');

/**
 * The commit's body, twice: Redis decides by the header whether a script may start while memory is short. The two
 * kinds never share a call, or a command would slip in with a completion.
 */
export const commitScripts = {
  command: script(`#!lua\n${body}`),
  completion: script(`#!lua flags=allow-oom\n${body}`),
} as const;

export type CommitterOptions = {
  /** A writer, with `commitScripts` loaded. */
  readonly connection: Connection;
  readonly keys: readonly PartitionKeys[];
  readonly fence: Fence;
  readonly guard: MemoryGuard;
  /** How long a commit whose reply was lost is asked for again. Default 3,000. */
  readonly deadlineMs?: number | undefined;
  /** Called once for each commit: an outcome's kind, or the name of the error. */
  readonly onCommit?: ((outcome: string, seconds: number) => void) | undefined;
};

type Pending = EncodedCommit & {
  readonly partition: number;
  readonly kind: keyof typeof commitScripts;
  readonly startedAt: number;
  readonly settle: (result: CommitOutcome | Error) => void;
  /** A sending of it may have been carried out: nothing but a reply can say whether it was. */
  maybeDone: boolean;
  /** The fence has been read anew on its behalf. */
  refreshed: boolean;
};

/** More would hold up the others in Redis for longer than a millisecond or so. */
const MOST_IN_A_CALL = 64;
const ASK_AGAIN_MS = 25;

/** The commit's TypeScript face: gathers the commits of a tick, sends them, and finds out what became of them. */
export function createCommitter(
  options: CommitterOptions,
): (request: CommitRequest) => Promise<CommitOutcome> {
  const { connection, keys, fence, guard, deadlineMs = 3_000, onCommit } = options;
  const waiting = new Map<string, Pending[]>();

  return (request) =>
    new Promise<CommitOutcome>((resolve, reject) => {
      const { partition, memory: kind = 'command' } = request;
      const names = keys[partition];
      if (!names) throw new Error(`there is no partition ${partition}`);
      const encoded = encodeCommit(names, request);
      const startedAt = performance.now();
      const settle = (result: CommitOutcome | Error) => {
        const isError = result instanceof Error;
        onCommit?.(isError ? result.name : result.kind, (performance.now() - startedAt) / 1000);
        if (isError) reject(result);
        else resolve(result);
      };
      if (kind === 'command' && guard.refuses('command')) {
        settle(new MemoryGuardError('Redis is too full for commands'));
      } else {
        enqueue({ ...encoded, partition, kind, startedAt, settle, maybeDone: false, refreshed: false });
      }
    });

  function enqueue(pending: Pending): void {
    const queue = `${pending.partition} ${pending.kind}`;
    const batch = waiting.get(queue);
    if (batch) {
      batch.push(pending);
      return;
    }
    waiting.set(queue, [pending]);
    setImmediate(() => {
      const gathered = waiting.get(queue) ?? [];
      waiting.delete(queue);
      for (let from = 0; from < gathered.length; from += MOST_IN_A_CALL) {
        send(pending.partition, commitScripts[pending.kind], gathered.slice(from, from + MOST_IN_A_CALL));
      }
    });
  }

  function send(partition: number, { sha, body }: Script, batch: readonly Pending[]): void {
    const names = keys[partition];
    const trusted = fence.trusted(partition);
    const runId = connection.runId();
    // Only what this very connection learnt from its server: after a reconnect it may be another one.
    if (runId === undefined) {
      notDone(batch, new StoreUnavailableError('Redis is not reachable'));
      return;
    }
    if (!names || !trusted) {
      notDone(batch, fencedError());
      return;
    }

    const scriptKeys: string[] = [names.meta, names.log];
    const args: (string | number)[] = [trusted.storeId, trusted.epoch, runId, batch.length];
    for (const pending of batch) {
      for (const key of pending.keys) scriptKeys.push(key);
      for (const arg of pending.args) args.push(arg);
    }
    const call = new Command('evalsha', [sha, scriptKeys.length, ...scriptKeys, ...args], {
      replyEncoding: 'utf8',
    });
    connection.redis.sendCommand(call);
    call.promise.then(
      (reply: unknown) => settleAll(batch, trusted.epoch, reply),
      (error: unknown) =>
        failed(partition, body, batch, error instanceof Error ? error : new Error(String(error))),
    );
  }

  function settleAll(batch: readonly Pending[], epoch: number, reply: unknown): void {
    const items: readonly unknown[] = Array.isArray(reply) ? reply : [];
    for (const [index, pending] of batch.entries()) {
      pending.settle(outcome(pending, epoch, Number(items[2 * index]), items[2 * index + 1]));
    }
  }

  /** A call of which nothing was carried out: Redis said so, or it never left. */
  function notDone(batch: readonly Pending[], reason: StoreUnavailableError): void {
    for (const pending of batch) {
      // An earlier sending may still have been: only the claim can tell.
      if (pending.maybeDone) askAgain(pending);
      else pending.settle(reason);
    }
  }

  function askAgain(pending: Pending): void {
    pending.maybeDone = true;
    if (performance.now() - pending.startedAt > deadlineMs) {
      pending.settle(
        new OutcomeUnknownError('the commit was sent and its reply was lost: it may or may not stand'),
      );
      return;
    }
    setTimeout(() => enqueue(pending), ASK_AGAIN_MS);
  }

  function failed(partition: number, body: string, batch: readonly Pending[], error: Error): void {
    const code = replyCode(error);
    if (code === 'FENCED') fenced(partition, batch);
    else if (code === 'NOSCRIPT') loadAgain(body, batch);
    else if (code === 'OOM') notDone(batch, new MemoryGuardError('Redis is out of memory'));
    else if (code !== undefined && NOT_EXECUTED.has(code)) {
      notDone(batch, new StoreUnavailableError(`Redis refuses commits: ${error.message}`));
    } else if (code !== undefined) {
      for (const pending of batch) pending.settle(error);
    } else if (error.message.startsWith("Stream isn't writeable")) {
      notDone(batch, new StoreUnavailableError('Redis is not reachable'));
    } else {
      // The connection broke, or no reply came in time.
      for (const pending of batch) askAgain(pending);
    }
  }

  /** The epoch may have moved on by another process' reconcile: look once, then believe it. */
  function fenced(partition: number, batch: readonly Pending[]): void {
    const again = batch.filter((pending) => !pending.refreshed);
    const settled = batch.filter((pending) => pending.refreshed);
    notDone(settled, fencedError());
    if (again.length === 0) return;
    for (const pending of again) pending.refreshed = true;
    fence.refresh().then(() => {
      if (!fence.trusted(partition)) notDone(again, fencedError());
      else for (const pending of again) enqueue(pending);
    });
  }

  function loadAgain(body: string, batch: readonly Pending[]): void {
    connection.redis.script('LOAD', body).then(
      () => {
        for (const pending of batch) enqueue(pending);
      },
      () => notDone(batch, new StoreUnavailableError('Redis has lost its scripts')),
    );
  }

  function fencedError(): StoreFencedError {
    return new StoreFencedError(
      fence.reason() ?? 'commits have stopped: Redis is being compared with the ledger',
    );
  }
}

/** Errors that Redis gives before a script runs. */
const NOT_EXECUTED = new Set(
  ['LOADING', 'BUSY', 'READONLY', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN', 'CLUSTERDOWN', 'TRYAGAIN'].concat([
    'MOVED',
    'ASK',
    'NOAUTH',
    'NOPERM',
    'EXECABORT',
  ]),
);

function replyCode(error: Error): string | undefined {
  return error.name === 'ReplyError' ? error.message.split(' ', 1)[0] : undefined;
}

function outcome(pending: Pending, epoch: number, code: number, value: unknown): CommitOutcome | Error {
  const { partition, versions } = pending;
  switch (code) {
    case 0:
      return { kind: 'committed', position: { partition, epoch, seq: Number(value) }, versions };
    case 1: {
      const [, ofEpoch, seq, answer = ''] = /^(\d+) (\d+) (.*)$/s.exec(String(value)) ?? [];
      const position = { partition, epoch: Number(ofEpoch), seq: Number(seq) };
      return pending.ownClaim
        ? { kind: 'committed', position, versions }
        : { kind: 'replayed', position, answer };
    }
    case 2:
      return { kind: 'claim_reused' };
    case 3: {
      const streamId = pending.streams[Number(value)];
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
