import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFailure, readOutcome } from './commit-reply.ts';
import { type EncodedCommit, encodeCommit } from './commit-request.ts';
import { type Connection, script } from './connections.ts';
import type { Fence } from './fence.ts';
import type { MemoryGuard } from './memory-guard.ts';
import type { PartitionKeys } from './partitions.ts';
import { ScriptCall } from './script-call.ts';
import type { Told } from './told.ts';
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
  readonly told: Pick<Told, 'note'>;
  readonly guard: MemoryGuard;
  /** How long a commit whose reply was lost is asked for again. Default 3,000. */
  readonly deadlineMs?: number | undefined;
  /** Called once for each commit: an outcome's kind, or the name of the error. */
  readonly onCommit?: ((outcome: string, seconds: number) => void) | undefined;
};

type Pending = EncodedCommit & { readonly settle: (result: CommitOutcome | Error) => void };

/**
 * The commits of one kind to one partition. One call at a time is under way: its number is how Redis knows a call
 * that is sent again, so the next may not be sent before this one's fate is known.
 */
type Line = {
  readonly names: PartitionKeys;
  readonly kind: keyof typeof commitScripts;
  /** Key of this line's last call. */
  readonly callKey: string;
  calls: number;
  waiting: Pending[];
  /** A call is under way. */
  busy: boolean;
  /** It is among those that wait for the next round. */
  ready: boolean;
};

type Call = {
  readonly line: Line;
  readonly number: number;
  readonly commits: readonly Pending[];
  readonly startedAt: number;
  /** A sending of it may have been carried out: nothing but a reply can say whether it was. */
  maybeDone: boolean;
  /** The fence has been read anew on its behalf. */
  refreshed: boolean;
};

/** More would hold up the others in Redis for longer than a millisecond or so. */
const MOST_IN_A_CALL = 64;
const BYTES_IN_A_CALL = 256 * 1024;
const CALLS_IN_A_WRITE = 4;
/** With more calls under way than this, commits gather for larger ones. Fewer, and Redis waits for Node. */
const UNDER_WAY = 8;
const ASK_AGAIN_MS = 25;
/** How long a line's last call is remembered: longer than a packet of it can be under way. */
const REMEMBERED_MS = 600_000;

/**
 * The commit's TypeScript face: gathers commits, sends them, and finds out what became of them.
 *
 * Commits of a tick share a call, and so do those that come while their line, or much else, is under way: they wait
 * for a round trip at most. So calls are large when there is much to do; each costs as much as a commit or two.
 */
export function createCommitter(
  options: CommitterOptions,
): (request: CommitRequest) => Promise<CommitOutcome> {
  const { connection, keys, fence, told, guard, deadlineMs = 3_000, onCommit } = options;
  const caller = randomBytes(12).toString('base64url');
  const lines = keys.map((names) => ({
    command: newLine(names, 'command'),
    completion: newLine(names, 'completion'),
  }));
  /** Lines with commits that wait, and no call under way. */
  let ready: Line[] = [];
  let underWay = 0;
  let scheduled = false;

  function newLine(names: PartitionKeys, kind: Line['kind']): Line {
    return {
      names,
      kind,
      callKey: names.claim(`call-${kind}-${caller}`),
      calls: 0,
      waiting: [],
      busy: false,
      ready: false,
    };
  }

  return (request) =>
    new Promise<CommitOutcome>((resolve, reject) => {
      const { partition, memory: kind = 'command' } = request;
      const line = lines[partition]?.[kind];
      if (!line) throw new Error(`there is no partition ${partition}`);
      const encoded = encodeCommit(line.names, request);
      const startedAt = performance.now();
      const settle = (result: CommitOutcome | Error) => {
        const isError = result instanceof Error;
        onCommit?.(isError ? result.name : result.kind, (performance.now() - startedAt) / 1000);
        if (isError) reject(result);
        else resolve(result);
      };
      const refused = refusal(line);
      if (refused) {
        settle(refused);
        return;
      }
      line.waiting.push({ ...encoded, settle });
      if (!line.busy) getReady(line);
      schedule();
    });

  /** Why nothing can be sent now; undefined: it can. */
  function refusal({ names, kind }: Line): StoreUnavailableError | undefined {
    if (connection.runId() === undefined) return new StoreUnavailableError('Redis is not reachable');
    if (!fence.trusted(names.partition)) return fencedError();
    if (kind === 'command' && guard.refuses('command')) {
      return new MemoryGuardError('Redis is too full for commands');
    }
    return undefined;
  }

  function getReady(line: Line): void {
    if (!line.ready) ready.push(line);
    line.ready = true;
  }

  function schedule(): void {
    if (scheduled || underWay > UNDER_WAY || ready.length === 0) return;
    scheduled = true;
    setImmediate(sendRound);
  }

  function sendRound(): void {
    scheduled = false;
    const calls = ready.map(nextCall);
    ready = [];
    // A write to the socket for each call would cost as much as its encoding; a single one for all would leave
    // Redis idle until the last is encoded.
    for (let from = 0; from < calls.length; from += CALLS_IN_A_WRITE) {
      const { stream } = connection.redis;
      stream?.cork();
      for (const call of calls.slice(from, from + CALLS_IN_A_WRITE)) send(call);
      stream?.uncork();
    }
  }

  function nextCall(line: Line): Call {
    let size = 0;
    let bytes = 0;
    while (size < line.waiting.length && size < MOST_IN_A_CALL && bytes < BYTES_IN_A_CALL) {
      bytes += line.waiting[size]?.bytes ?? 0;
      size++;
    }
    const commits = line.waiting.slice(0, size);
    line.waiting = line.waiting.slice(size);
    line.busy = true;
    line.ready = false;
    const startedAt = performance.now();
    return { line, number: ++line.calls, commits, startedAt, maybeDone: false, refreshed: false };
  }

  /** The fate of a call is known, or given up: the line may go on. */
  function settleCall(
    { line, commits }: Call,
    result: (commit: Pending, index: number) => CommitOutcome | Error,
  ): void {
    line.busy = false;
    if (line.waiting.length > 0) getReady(line);
    for (const [index, commit] of commits.entries()) commit.settle(result(commit, index));
    schedule();
  }

  function send(call: Call): void {
    const { names, kind, callKey } = call.line;
    // Only what this very connection learnt from its server: after a reconnect it may be another one.
    const runId = connection.runId();
    if (runId === undefined) {
      notDone(call, new StoreUnavailableError('Redis is not reachable'));
      return;
    }
    const trusted = fence.trusted(names.partition);
    if (!trusted) {
      notDone(call, fencedError());
      return;
    }
    const { storeId, epoch } = trusted;
    const head = [storeId, epoch, runId, call.number, REMEMBERED_MS, call.commits.length];
    const command = new ScriptCall(
      commitScripts[kind].sha,
      [[names.meta, names.log, callKey], ...call.commits.map(({ keys }) => keys)],
      [head, ...call.commits.map(({ args }) => args)],
    );
    underWay++;
    connection.redis.sendCommand(command);
    command.promise.then(
      (reply: unknown) => {
        underWay--;
        const items: readonly unknown[] = Array.isArray(reply) ? reply : [];
        settleCall(call, (commit, index) => {
          const outcome = readOutcome(commit, names.partition, items, index);
          if ('kind' in outcome && outcome.kind === 'committed' && outcome.versions.length > 0) {
            told.note(names.partition, outcome.position.epoch, outcome.position.seq);
          }
          return outcome;
        });
      },
      (error: unknown) => {
        underWay--;
        failed(call, error instanceof Error ? error : new Error(String(error)));
        schedule();
      },
    );
  }

  /** A call of which nothing was carried out: Redis said so, or it never left. */
  function notDone(call: Call, reason: StoreUnavailableError): void {
    // An earlier sending may still have been: only the claim can tell.
    if (call.maybeDone) askAgain(call);
    else settleCall(call, () => reason);
  }

  function askAgain(call: Call): void {
    call.maybeDone = true;
    // What waits behind it has not been sent, and should not wait for as long.
    const { line } = call;
    const behind = line.waiting;
    line.waiting = [];
    for (const commit of behind) commit.settle(new StoreUnavailableError('Redis is not reachable'));
    if (performance.now() - call.startedAt > deadlineMs) {
      const unknown = 'the commit was sent and its reply was lost: it may or may not stand';
      settleCall(call, () => new OutcomeUnknownError(unknown));
    } else {
      setTimeout(send, ASK_AGAIN_MS, call);
    }
  }

  function failed(call: Call, error: Error): void {
    const failure = readFailure(error);
    if (failure.kind === 'not_done') notDone(call, failure.error);
    else if (failure.kind === 'fenced') fenced(call);
    else if (failure.kind === 'script_lost') loadAgain(call);
    else if (failure.kind === 'unknown') askAgain(call);
    else settleCall(call, () => error);
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
    connection.redis.script('LOAD', commitScripts[call.line.kind].body).then(
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
