import packageJson from '../../package.json' with { type: 'json' };
import { createHmacs } from '../access/signing.ts';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import { enqueueJob, type JobAccepted, type JobCommandDeps } from '../commands/jobs/requests.ts';
import { mintedIn, mintKey } from '../commands/mint.ts';
import { recordOperation } from '../commands/operations.ts';
import type { Config } from '../config.ts';
import type { Reactor } from '../consumers/reactor.ts';
import type { ReplayDeps } from '../consumers/replay/job.ts';
import { planReplay, type ReplayPlan, rangesOfPlan } from '../consumers/replay/plan.ts';
import { refuse } from '../domain/decision.ts';
import { parseStreamId, partitionOf } from '../domain/ids.ts';
import { type ReplayPayload, replayJob } from '../domain/replays.ts';
import type { Parts } from './base.ts';
import { groupNamed, pausable } from './groups.ts';
import { reactorsOf } from './reactors.ts';
import { commandBasics, hexHmac } from './write-side.ts';

/** What somebody wants a reactor to be given again. */
export type ReplayWanted = {
  readonly group: string;
  readonly from: Date;
  /** Default: now. */
  readonly to?: Date;
  /** Default: all that the reactor may react to. */
  readonly types?: readonly string[];
};

/** A plan, and the bounds that were meant: named once more, they mean the same events later, too. */
export type PlannedReplay = ReplayPlan & { readonly from: string; readonly to: string };

type Planned =
  | { readonly ok: true; readonly plan: PlannedReplay; readonly payloadOf: PayloadOf }
  | ReturnType<typeof refuse>;
type PayloadOf = (how: Pick<ReplayPayload, 'sideEffects' | 'rate'>) => ReplayPayload;

/** What the replay jobs of a worker need. */
export function replayDeps(config: Config, { db, store }: Pick<Parts, 'db' | 'store'>): ReplayDeps {
  return {
    ...commandBasics(store),
    ...{ db, store, hmac: hexHmac(createHmacs(config.HMAC_KEY)), reactors: reactorsOf(config) },
  };
}

/** What a replay would do now. Refused with `not_found`, `not_replayable`. */
export async function foreseeReplay(
  config: Pick<Config, 'HMAC_KEY'>,
  side: Pick<Parts, 'db' | 'store'>,
  wanted: ReplayWanted,
): Promise<Planned> {
  const known = replayable(reactorsOf(config), wanted);
  if (!known.ok) return known;
  const { group, from, to = side.store.clock.now() } = wanted;
  const types = wanted.types ?? known.reactor.reactsTo;
  const plan = await planReplay(side, known.reactor, { types, from, to }, packageJson.version);
  const bounds = { from: from.toISOString(), to: to.toISOString() };
  const payloadOf: PayloadOf = (how) => ({
    ...{ ...how, ...bounds, group, types: [...types], events: plan.events, digest: plan.digest },
    ranges: rangesOfPlan(plan),
  });
  return { ok: true, plan: { ...plan, ...bounds }, payloadOf };
}

/**
 * Asks for a job that replays what was planned. Refused with `plan_stale` where that is not what it would do now: events
 * have come, or other code is here; and as `foreseeReplay` is. Without side effects no plan is needed: what is there now is
 * counted.
 */
export async function requestReplay(
  config: Pick<Config, 'HMAC_KEY'>,
  side: Pick<Parts, 'db' | 'store'> & { readonly commands: JobCommandDeps },
  context: CommandContext,
  wanted: ReplayWanted & Pick<ReplayPayload, 'sideEffects' | 'rate'> & { readonly plan?: string },
): Promise<CommandResult<JobAccepted>> {
  const planned = await foreseeReplay(config, side, wanted);
  if (!planned.ok) return { kind: 'refused', refusal: planned.refusal };
  const { plan, payloadOf } = planned;
  const isPlanned = plan.digest === (wanted.plan ?? (wanted.sideEffects === 'off' ? plan.digest : undefined));
  if (!isPlanned && !(await wasAsked(side.commands, context))) {
    const { refusal } = refuse(
      'plan_stale',
      `The plan is not what the replay would do now: ${plan.events} events, digest ${plan.digest}. Look at it again, and name where it ends, so that no more events come to it.`,
    );
    return { kind: 'refused', refusal };
  }
  const { group, ...parameters } = payloadOf(wanted);
  const recorded = await recordOperation(side.commands, context, {
    operation: 'group.replay',
    target: group,
    parameters,
  });
  if (recorded.kind !== 'done') return recorded;
  return enqueueJob(side.commands, { ...context, causation: recorded.body.id }, replayJob(payloadOf(wanted)));
}

/** Whether a request with this key was carried out: then it gets that answer, whatever has come since. */
async function wasAsked({ store }: JobCommandDeps, { idempotency }: CommandContext): Promise<boolean> {
  if (!idempotency) return false;
  const { key } = idempotency;
  const minted = await store.findClaim(mintedIn(key, store.partitions), mintKey(key));
  const id = minted && parseStreamId(minted.answer, 'job');
  return id !== undefined && (await store.findClaim(partitionOf(id), key)) !== undefined;
}

function replayable(
  reactors: readonly Reactor[],
  { group, types = [] }: ReplayWanted,
): { readonly ok: true; readonly reactor: Reactor } | ReturnType<typeof refuse> {
  const reactor = reactors.find(({ name }) => name === group);
  if (!reactor) {
    const there = pausable(group);
    if (!there.ok && there.refusal.code === 'not_found') return there;
    const instead = !groupNamed(group)
      ? 'It reads no events: only reactors are given some again.'
      : groupNamed(group)?.kind === 'projection'
        ? 'A read model takes in each event once. To see whether it is right: millrace verify. To make it anew: millrace projections rebuild.'
        : 'The ledger holds every event once.';
    return refuse('not_replayable', instead);
  }
  const never = types.find((type) => !reactor.reactsTo.some((known) => known === type));
  if (never === undefined) return { ok: true, reactor };
  return refuse(
    'not_replayable',
    `${group} does nothing about ${never}; it reacts to ${reactor.reactsTo.join(', ')}.`,
  );
}
