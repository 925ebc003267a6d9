import type { CommandDeps } from '../../commands/handle.ts';
import { commitReplayed, type Reaction, type ReactionDeps } from '../../commands/reactions.ts';
import type { JobId } from '../../domain/ids.ts';
import { type ReplayPayload, ReplayResult, replayJobType } from '../../domain/replays.ts';
import type { OpenEventStore } from '../../eventstore/store.ts';
import { pause } from '../backoff.ts';
import { defineJob, type JobContext, NoRetryError } from '../define-job.ts';
import { ledgerHolds } from '../ledger-holds.ts';
import { persistently } from '../persistently.ts';
import type { Reactor } from '../reactor.ts';
import { eventsIn, type LedgerSource, type SeqRange } from './events.ts';
import { movePosition, type ReplayPosition, readPositions } from './progress.ts';

export type ReplayDeps = ReactionDeps &
  Pick<CommandDeps, 'hmac'> &
  Pick<LedgerSource, 'db'> & {
    readonly store: Pick<OpenEventStore, 'heads' | 'archives'>;
    /** All there are. */
    readonly reactors: readonly Reactor[];
  };

const PAGE = 500;
/** Jobs that share a commit: large results make large commits. */
const MOST_AT_ONCE = 20;
/** Handfuls a second: each is a commit, and a row in Postgres. */
const HANDFULS = 10;
const NOTHING: Omit<ReplayPosition, 'seq'> = { events: 0, jobs: 0 };

/** The job that gives a reactor past events again. */
export function replayJob(deps: ReplayDeps) {
  return defineJob({ ...replayJobType, result: ReplayResult, run: (context) => replay(deps, context) });
}

/**
 * Partition by partition, in the order of the log. A run that follows one that was cut off goes on behind the last handful
 * that the ledger has, and finds what was enqueued of the next one by its ids.
 */
async function replay(
  deps: ReplayDeps,
  { job, signal, progress, logger }: JobContext<ReplayPayload>,
): Promise<ReplayResult> {
  const { payload } = job;
  const reactor = deps.reactors.find(({ name }) => name === payload.group);
  if (!reactor) throw new NoRetryError(`there is no reactor ${payload.group}`);
  const { sideEffects, rate } = payload;
  const positions = await readPositions(deps.db, job.id);
  const total = () => {
    let { events, jobs } = NOTHING;
    for (const each of positions.values()) [events, jobs] = [events + each.events, jobs + each.jobs];
    return { sideEffects, events, jobs };
  };
  for (const range of payload.ranges) {
    for await (const handful of handfulsOf(deps, reactor, payload, range, positions.get(range.partition))) {
      signal.throwIfAborted();
      const begun = performance.now();
      const { reactions } = handful;
      const step = { deps, reactor, replay: job.id, partition: range.partition, logger, signal };
      if (sideEffects === 'on') await enqueue(step, reactions);
      const before = positions.get(range.partition);
      const { events: had, jobs: made } = before ?? NOTHING;
      const now = { seq: handful.upTo, events: had + handful.events, jobs: made + reactions.length };
      await movePosition(deps.db, step, before, now);
      positions.set(range.partition, now);
      const sum = total();
      progress(Math.min(99, (sum.events / Math.max(1, payload.events)) * 100), {
        ...sum,
        of: payload.events,
      });
      const restMs = (reactions.length / rate) * 1000 - (performance.now() - begun);
      if (restMs > 0) await pause(restMs, signal);
    }
  }
  signal.throwIfAborted();
  return total();
}

/** Events that follow one another, up to a seq, and what the reactor decides on. */
type Handful = { readonly upTo: number; readonly events: number; readonly reactions: readonly Reaction[] };

/** What nothing follows from passes with what comes next: nobody has to bear it. */
async function* handfulsOf(
  { db, store }: ReplayDeps,
  reactor: Reactor,
  { from, to, types, rate }: ReplayPayload,
  range: SeqRange,
  done: ReplayPosition | undefined,
): AsyncGenerator<Handful> {
  const size = Math.max(1, Math.floor(rate / HANDFULS));
  const selection = { types, from: new Date(from), to: new Date(to) };
  const left = { ...range, after: done?.seq ?? range.after };
  for await (const page of eventsIn({ db, archives: store.archives }, selection, left, PAGE)) {
    let reactions: Reaction[] = [];
    let events = 0;
    for (const event of page) {
      events++;
      const reaction = reactor.react(event);
      if (reaction) reactions.push(reaction);
      if (reactions.length < size && event !== page.at(-1)) continue;
      yield { upTo: event.seq, events, reactions };
      [reactions, events] = [[], 0];
    }
  }
}

type Step = {
  readonly deps: ReplayDeps;
  readonly reactor: Reactor;
  readonly replay: JobId;
  readonly partition: number;
} & Pick<JobContext<ReplayPayload>, 'logger' | 'signal'>;

/** Enqueues what was not enqueued by a run before, and waits until the ledger has it. Throws the signal's reason. */
async function enqueue(step: Step, reactions: readonly Reaction[]): Promise<void> {
  const { deps, partition, replay, reactor, logger, signal } = step;
  if (reactions.length === 0) return;
  const about = { partition, replay, reactor: reactor.name };
  for (let at = 0; at < reactions.length; at += MOST_AT_ONCE) {
    const some = reactions.slice(at, at + MOST_AT_ONCE);
    await persistently(logger, signal, () => commitReplayed(deps, about, some));
    signal.throwIfAborted();
  }
  // Before the position moves: what Redis may still lose would else be neither there nor done again.
  await persistently(logger, signal, async () => {
    const heads = await deps.store.heads();
    const head = heads.map((seq, each) => (each === partition ? seq : 0));
    await ledgerHolds(deps.db, head, signal);
  });
  signal.throwIfAborted();
}
