import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'ioredis';
import { createCallIds } from './call-ids.ts';
import { type EncodedCommit, encodeCommit } from './commit-request.ts';
import { type Connection, script } from './connections.ts';
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

type Pending = EncodedCommit & { readonly settle: (result: CommitOutcome | Error) => void };

/** The commits of a tick to one partition. Sent again only as a whole: its claim stands for all of it. */
type Call = {
  readonly names: PartitionKeys;
  readonly kind: keyof typeof commitScripts;
  readonly commits: Pending[];
  readonly startedAt: number;
  readonly claim: string;
  /** A sending of it may have been carried out: nothing but a reply can say whether it was. */
  maybeDone: boolean;
  /** The fence has been read anew on its behalf. */
  refreshed: boolean;
};

/** More would hold up the others in Redis for longer than a millisecond or so. */
const MOST_IN_A_CALL = 64;
const ASK_AGAIN_MS = 25;
/** How long a call's claim lives: longer than anyone asks again. */
const CLAIM_MS = 15_000;

/** The commit's TypeScript face: gathers the commits of a tick, sends them, and finds out what became of them. */
export function createCommitter(
  options: CommitterOptions,
): (request: CommitRequest) => Promise<CommitOutcome> {
  const { connection, keys, fence, guard, deadlineMs = 3_000, onCommit } = options;
  const nextId = createCallIds();
  /** By partition and kind, those that still take commits. */
  let open = new Map<string, Call>();
  let tick: Call[] = [];

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
        gather(names, kind, startedAt, { ...encoded, settle });
      }
    });

  function gather(names: PartitionKeys, kind: Call['kind'], startedAt: number, commit: Pending): void {
    const into = `${names.partition} ${kind}`;
    const call = open.get(into);
    if (call && call.commits.length < MOST_IN_A_CALL) {
      call.commits.push(commit);
      return;
    }
    const claim = names.claim(`call-${nextId()}`);
    const opened = { names, kind, commits: [commit], startedAt, claim, maybeDone: false, refreshed: false };
    if (tick.length === 0) setImmediate(sendTick);
    open.set(into, opened);
    tick.push(opened);
  }

  function sendTick(): void {
    const calls = tick;
    tick = [];
    open = new Map();
    // In one write to the socket: a write for each call costs more than its encoding.
    const { stream } = connection.redis;
    stream?.cork();
    for (const call of calls) send(call);
    stream?.uncork();
  }

  function send(call: Call): void {
    // Only what this very connection learnt from its server: after a reconnect it may be another one.
    const runId = connection.runId();
    if (runId === undefined) {
      notDone(call, new StoreUnavailableError('Redis is not reachable'));
      return;
    }
    const trusted = fence.trusted(call.names.partition);
    if (!trusted) {
      notDone(call, fencedError());
      return;
    }
    const { names, commits, claim } = call;
    const scriptKeys: string[] = [names.meta, names.log, claim];
    const args: (string | number)[] = [trusted.storeId, trusted.epoch, runId, CLAIM_MS, commits.length];
    for (const commit of commits) {
      for (const key of commit.keys) scriptKeys.push(key);
      for (const arg of commit.args) args.push(arg);
    }
    const { sha } = commitScripts[call.kind];
    const command = new Command('evalsha', [sha, scriptKeys.length, ...scriptKeys, ...args], {
      replyEncoding: 'utf8',
    });
    connection.redis.sendCommand(command);
    command.promise.then(
      (reply: unknown) => settleAll(call, reply),
      (error: unknown) => failed(call, error instanceof Error ? error : new Error(String(error))),
    );
  }

  /** A call of which nothing was carried out: Redis said so, or it never left. */
  function notDone(call: Call, reason: StoreUnavailableError): void {
    // An earlier sending may still have been: only the claim can tell.
    if (call.maybeDone) askAgain(call);
    else for (const commit of call.commits) commit.settle(reason);
  }

  function askAgain(call: Call): void {
    call.maybeDone = true;
    if (performance.now() - call.startedAt > deadlineMs) {
      const unknown = 'the commit was sent and its reply was lost: it may or may not stand';
      for (const commit of call.commits) commit.settle(new OutcomeUnknownError(unknown));
    } else {
      setTimeout(send, ASK_AGAIN_MS, call);
    }
  }

  function failed(call: Call, error: Error): void {
    const code = replyCode(error);
    if (code === 'FENCED') fenced(call);
    else if (code === 'NOSCRIPT') loadAgain(call);
    else if (code === 'OOM') notDone(call, new MemoryGuardError('Redis is out of memory'));
    else if (code !== undefined && NOT_EXECUTED.has(code)) {
      notDone(call, new StoreUnavailableError(`Redis refuses commits: ${error.message}`));
    } else if (code !== undefined) {
      for (const commit of call.commits) commit.settle(error);
    } else if (error.message.startsWith("Stream isn't writeable")) {
      notDone(call, new StoreUnavailableError('Redis is not reachable'));
    } else {
      // The connection broke, or no reply came in time.
      askAgain(call);
    }
  }

  /** The epoch may have moved on by another process' reconcile: look once, then believe it. */
  function fenced(call: Call): void {
    if (call.refreshed) {
      notDone(call, fencedError());
      return;
    }
    call.refreshed = true;
    fence.refresh().then(() => send(call));
  }

  function loadAgain(call: Call): void {
    connection.redis.script('LOAD', commitScripts[call.kind].body).then(
      () => send(call),
      () => notDone(call, new StoreUnavailableError('Redis has lost its scripts')),
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

function settleAll({ commits, names }: Call, reply: unknown): void {
  const items: readonly unknown[] = Array.isArray(reply) ? reply : [];
  const epoch = Number(items[0]);
  for (let index = 0; index < commits.length; index++) {
    const commit = commits[index];
    commit?.settle(outcome(commit, names.partition, epoch, items[2 * index + 1], items[2 * index + 2]));
  }
}

function outcome(
  { versions, streams }: Pending,
  partition: number,
  epoch: number,
  code: unknown,
  value: unknown,
): CommitOutcome | Error {
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
