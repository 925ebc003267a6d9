import { setTimeout as sleep } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import {
  discardJob,
  type JobAccepted,
  type JobCommandDeps,
  type JobOf,
  retryJob,
} from '../commands/jobs/requests.ts';
import {
  type Settling,
  type SettlingPayload,
  SettlingResult,
  settlingJobTypes,
} from '../domain/dead-letters.ts';
import type { Database } from '../projections/database.ts';
import {
  countSettledIn,
  countToSettle,
  type Letter,
  lettersHold,
  lettersToSettle,
} from '../projections/dead-letters/queries.ts';
import { pause } from './backoff.ts';
import { defineJob, type JobContext } from './define-job.ts';
import { persistently } from './persistently.ts';

export type SettlingDeps = {
  readonly db: Kysely<Database>;
  readonly commands: JobCommandDeps;
};

const PAGE = 200;
/** Letters are settled in handfuls, this many a second: their commits travel together. */
const HANDFULS = 20;
const READ_MODEL_POLL_MS = 50;

/** The jobs that redrive or discard many dead letters, in the order in which they died. */
export function settlingJobs(deps: SettlingDeps) {
  return (['redrive', 'discard'] as const).map((settling) =>
    defineJob({
      ...settlingJobTypes[settling],
      result: SettlingResult,
      run: (context) => settleLetters(deps, settling, context),
    }),
  );
}

/**
 * Goes through the letters that were dead when it was asked for. A run that follows one that was cut off begins with
 * what is dead still; none is settled twice: each decision is about the one version of the job that the letter names,
 * and has an idempotency key of its own, so that one whose reply was lost counts as done.
 */
async function settleLetters(
  deps: SettlingDeps,
  settling: Settling,
  { job, signal, progress, logger }: JobContext<SettlingPayload>,
): Promise<SettlingResult> {
  const { db } = deps;
  const { filter, heads, rate, correlation } = job.payload;
  while (!(await lettersHold(db, heads))) await sleep(READ_MODEL_POLL_MS, undefined, { signal });
  let done = await countSettledIn(db, correlation);
  let failed = 0;
  const total = done + (await countToSettle(db, filter, heads));

  const settle = async (letter: Letter) => {
    const context = contextOf(deps, job, letter);
    const input = { jobId: letter.jobId, version: letter.version };
    const result = await persistently(logger, signal, () =>
      COMMANDS[settling](deps.commands, context, input),
    );
    if (result?.kind === 'done') done++;
    else if (result?.kind === 'refused') failed++;
    else if (result) throw new Error(`the key of ${letter.jobId} was used for something else`);
  };

  const handful = Math.max(1, Math.floor(rate / HANDFULS));
  let after: Letter | undefined;
  for (;;) {
    const letters = await lettersToSettle(db, filter, { heads, after: after?.place, limit: PAGE });
    if (letters.length === 0) return { done, failed, total };
    for (let from = 0; from < letters.length; from += handful) {
      signal.throwIfAborted();
      const some = letters.slice(from, from + handful);
      const begun = performance.now();
      await Promise.all(some.map(settle));
      progress(Math.min(99, ((done + failed) / Math.max(1, total)) * 100), { done, failed, total });
      const restMs = (some.length / rate) * 1000 - (performance.now() - begun);
      if (restMs > 0) await pause(restMs, signal);
    }
    signal.throwIfAborted();
    after = letters.at(-1);
  }
}

const COMMANDS: Record<
  Settling,
  (deps: JobCommandDeps, context: CommandContext, input: JobOf) => Promise<CommandResult<JobAccepted>>
> = { redrive: retryJob, discard: discardJob };

/** The operator's own, as if he had asked for each. */
function contextOf(
  { commands }: SettlingDeps,
  { id, payload }: JobContext<SettlingPayload>['job'],
  { jobId, version }: Letter,
): CommandContext {
  const { actor, correlation, reason, operation } = payload;
  const key = commands.hmac('settling of a dead letter', `${id}\n${jobId}\n${version}`);
  return {
    ...{ actor, correlation, reason, durability: 'memory', idempotency: { key, fingerprint: key } },
    ...(operation === undefined ? {} : { causation: operation }),
  };
}
