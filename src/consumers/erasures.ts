import { setTimeout as sleep } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import type { BlobStore } from '../blobs/blobs.ts';
import { completeErasure, releaseEmail } from '../commands/erasures.ts';
import type { CommandContext } from '../commands/handle.ts';
import { cancelJob, discardJob, type JobCommandDeps } from '../commands/jobs/requests.ts';
import { deleteSchedule } from '../commands/schedules.ts';
import { endSession } from '../commands/sessions.ts';
import { Erased } from '../domain/accounts.ts';
import { ERASE_JOB, type ErasePayload, eraseJobType } from '../domain/erasures.ts';
import type { RawEvent } from '../domain/event.ts';
import { codec } from '../domain/events.ts';
import { EXPORT_JOB, filesOf } from '../domain/exports.ts';
import { type AccountId, type JobId, jobOfExport, parseStreamId } from '../domain/ids.ts';
import { jobFold, jobIsFinished } from '../domain/jobs/state.ts';
import type { Archives } from '../eventstore/archive/archives.ts';
import { readLedger, readStream } from '../eventstore/ledger-read.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import { defineJob, type JobContext } from './define-job.ts';
import { LEDGER_POLL_MS, ledgerHolds } from './ledger-holds.ts';

export type ErasureDeps = {
  readonly db: Kysely<LedgerTables>;
  readonly archives?: Archives | undefined;
  readonly blobs: Pick<BlobStore, 'removeFolder'>;
  readonly commands: JobCommandDeps;
  /** Deletes the person's key and password: what was sealed for them can't be opened any more, by anybody, ever. */
  readonly forget: (accountId: AccountId) => Promise<void>;
  /** How long a process may go on with what it had read of the person when that was deleted. */
  readonly settleMs: number;
};

const PAGE = 500;
/** Commits of a page that travel together. */
const AT_ONCE = 20;
const RUNNING_POLL_MS = 200;
/** The one that this is, and those that come with their exports. */
const NO_JOBS_OF_THEIRS = new Set([ERASE_JOB, EXPORT_JOB]);

/** The job that erases a person, once their account is closed. */
export function eraseJob(deps: ErasureDeps) {
  return defineJob({ ...eraseJobType, result: Erased, run: (context) => erase(deps, context) });
}

/**
 * Ends and takes away all that a person has, as the ledger knows it. A run that was cut off is done once more from the
 * beginning: whatever it meets may be gone already.
 *
 * Nothing is deleted before the ledger holds the account's `AccountErased`: otherwise, were Redis lost in between, a key
 * would be missing of somebody who was never erased.
 */
async function erase(
  deps: ErasureDeps,
  { job, signal, progress }: JobContext<ErasePayload>,
): Promise<Erased> {
  const accountId: AccountId | undefined = parseStreamId(job.payload.accountId, 'acc');
  if (!accountId) throw new Error(`${job.payload.accountId} is no account's id`);
  await erasureIsHeld(deps, accountId, signal);
  const sweep = sweeper(deps, accountId, job.id, signal);

  await sweep.upToNow();
  progress(50);
  await deps.forget(accountId);
  // Requests that were let in before, and what others have read a moment ago: they come to their end.
  await sleep(deps.settleMs, undefined, { signal });
  await sweep.upToNow();
  progress(90);
  await sweep.untilNothingRuns();

  await completeErasure(deps.commands, contextOf(accountId, job.id), { accountId, erased: sweep.found });
  return sweep.found;
}

async function erasureIsHeld(deps: ErasureDeps, accountId: AccountId, signal: AbortSignal): Promise<void> {
  for (;;) {
    const events = await readStream(deps.db, accountId, {}, deps.archives);
    if (events.some(({ type }) => type === 'AccountErased')) return;
    await sleep(LEDGER_POLL_MS, undefined, { signal });
  }
}

const contextOf = (accountId: AccountId, correlation: string): CommandContext => ({
  actor: 'system:erasure',
  owner: accountId,
  correlation,
  durability: 'memory',
});

/** Goes through the events of a person, each once. */
function sweeper(deps: ErasureDeps, accountId: AccountId, jobId: JobId, signal: AbortSignal) {
  const { db, archives, blobs, commands } = deps;
  const found: Erased = { sessions: 0, jobs: 0, schedules: 0, exports: 0 };
  const context = contextOf(accountId, jobId);
  /** Jobs whose handlers may run still. */
  const running = new Set<JobId>();
  /** Exports that may write still. */
  const writing = new Set<string>();
  let swept: readonly number[] = [];

  async function each(event: RawEvent): Promise<void> {
    const { streamId } = event;
    switch (event.type) {
      case 'EmailClaimed':
        await releaseEmail(commands, context, { emailId: streamId, accountId });
        return;
      case 'SessionStarted':
        found.sessions++;
        await endSession(commands, context, { sessionId: streamId, reason: 'erased' });
        return;
      case 'ScheduleCreated':
        found.schedules++;
        await deleteSchedule(commands, context, { scheduleId: streamId, owner: accountId });
        return;
      case 'ExportRequested':
        found.exports++;
        // Its job first: one that ends well in between would leave its file.
        if (await endJob(jobOfExport(streamId))) writing.add(streamId);
        await blobs.removeFolder(filesOf(streamId));
        return;
      case 'JobEnqueued': {
        const enqueued = codec.decode(event);
        if (enqueued.type !== 'JobEnqueued' || NO_JOBS_OF_THEIRS.has(enqueued.data.type)) return;
        found.jobs++;
        await endJob(streamId);
      }
    }
  }

  /** True: a handler may run still. A job that ends by itself in between is looked at again: it may be a dead letter by now. */
  async function endJob(id: JobId): Promise<boolean> {
    for (;;) {
      signal.throwIfAborted();
      const { state } = await commands.store.load(id, jobFold);
      const isDead = state.phase === 'failed';
      if (state.phase === 'none' || (jobIsFinished(state) && !isDead)) return false;
      const end = isDead ? discardJob : cancelJob;
      const result = await end(commands, context, { jobId: id });
      if (result.kind !== 'done') continue;
      const runs = result.body.status === 'running';
      if (runs) running.add(id);
      return runs;
    }
  }

  return {
    found,
    async upToNow(): Promise<void> {
      const heads = await commands.store.heads();
      await ledgerHolds(db, heads, signal);
      for (const [partition, upTo] of heads.entries()) {
        for (let after = swept[partition] ?? 0; after < upTo; ) {
          const page = await readLedger(
            db,
            { partition, after, upTo, owner: accountId, limit: PAGE },
            archives,
          );
          for (let from = 0; from < page.length; from += AT_ONCE) {
            signal.throwIfAborted();
            await Promise.all(page.slice(from, from + AT_ONCE).map(each));
          }
          after = page.length < PAGE ? upTo : (page.at(-1)?.seq ?? upTo);
        }
      }
      swept = heads;
    },
    async untilNothingRuns(): Promise<void> {
      for (const id of running) {
        while (!jobIsFinished((await commands.store.load(id, jobFold)).state)) {
          await sleep(RUNNING_POLL_MS, undefined, { signal });
        }
      }
      for (const id of writing) await blobs.removeFolder(filesOf(id));
    },
  };
}
