import { createHash } from 'node:crypto';
import type { OpenEventStore } from '../../eventstore/store.ts';
import { decidedAt } from '../event-meta.ts';
import { ledgerHoldsWithin } from '../ledger-holds.ts';
import type { Reactor } from '../reactor.ts';
import { eventsIn, type LedgerSource, rangesOf, type Selection, type SeqRange } from './events.ts';

/** What a replay would do: which events a reactor would be given again, and what follows from them. */
export type ReplayPlan = {
  readonly events: number;
  readonly types: Readonly<Record<string, number>>;
  /** `first` and `last` are seqs. */
  readonly partitions: readonly {
    readonly partition: number;
    readonly first: number;
    readonly last: number;
    readonly events: number;
  }[];
  /** How many jobs of each type the reactor decides on. */
  readonly jobs: Readonly<Record<string, number>>;
  /** The first of them. */
  readonly sample: readonly { readonly streamId: string; readonly type: string; readonly at: string }[];
  /** The same for the same events, decided on in the same way by the same code. */
  readonly digest: string;
};

const PAGE = 500;
const SAMPLE = 10;
const LEDGER_WITHIN_MS = 5_000;

/**
 * Lets the reactor decide on each event of a selection, and does nothing about it. All of the log that was there when it
 * was asked for is in the plan. Throws `StoreUnavailableError` where the ledger lags.
 * @param code of what decides: another version's plan is another plan
 */
export async function planReplay(
  { db, store }: Pick<LedgerSource, 'db'> & { readonly store: Pick<OpenEventStore, 'heads' | 'archives'> },
  reactor: Reactor,
  selection: Selection,
  code: string,
): Promise<ReplayPlan> {
  await ledgerHoldsWithin(db, await store.heads(), LEDGER_WITHIN_MS);
  const source = { db, archives: store.archives };
  const digest = createHash('sha256').update(JSON.stringify([code, reactor.name]));
  const [types, jobs] = [new Map<string, number>(), new Map<string, number>()];
  const sample: { streamId: string; type: string; at: string }[] = [];
  const partitions: ReplayPlan['partitions'][number][] = [];
  for (const range of await rangesOf(source, selection)) {
    let [events, first, last] = [0, 0, 0];
    for await (const page of eventsIn(source, selection, range, PAGE)) {
      for (const event of page) {
        const { job } = reactor.react(event) ?? {};
        digest.update(JSON.stringify([range.partition, event.seq, event.id, job ?? null]));
        count(types, event.type);
        if (job) count(jobs, job.type);
        first ||= event.seq;
        last = event.seq;
        events++;
        if (sample.length < SAMPLE) sample.push(sampleOf(event));
      }
    }
    if (events > 0) partitions.push({ partition: range.partition, first, last, events });
  }
  return {
    events: partitions.reduce((sum, { events }) => sum + events, 0),
    types: Object.fromEntries(types),
    partitions,
    jobs: Object.fromEntries(jobs),
    sample,
    digest: digest.digest('hex').slice(0, 32),
  };
}

/** The ranges of a plan, as its job reads them. */
export const rangesOfPlan = ({ partitions }: ReplayPlan): SeqRange[] =>
  partitions.map(({ partition, first, last }) => ({ partition, after: first - 1, upTo: last }));

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

const sampleOf = ({
  streamId,
  type,
  meta,
}: {
  readonly streamId: string;
  readonly type: string;
  readonly meta: string;
}) => ({ streamId, type, at: new Date(decidedAt(meta) ?? 0).toISOString() });
