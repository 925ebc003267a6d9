import { type Static, Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { JobAccepted } from '../commands/jobs/requests.ts';
import type { Refusal } from '../domain/decision.ts';
import { SideEffects } from '../domain/replays.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { DryRun, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { Id, Status, Strict, Time, Version } from './schemas.ts';
import type { Routes } from './types.ts';

/** Events a second; without side effects nobody else has to bear it. */
export const REPLAY_RATES = { on: 50, off: 1_000 } as const;

const Count = Type.Integer({ minimum: 0 });
const Plan = Type.Object(
  {
    digest: Type.String({ description: 'Names this plan: what `plan` confirms.' }),
    from: Time,
    to: { ...Time, description: 'Name it when you confirm: later events are in no plan.' },
    events: { ...Count, description: 'How many the group would be given.' },
    types: Type.Record(Type.String(), Count, { description: 'How many of each type.' }),
    partitions: Type.Array(
      Type.Object(
        { partition: Count, first: Count, last: Count, events: Count },
        { description: 'Of seqs.' },
      ),
    ),
    jobs: Type.Record(Type.String(), Count, {
      description: 'How many jobs of each type it would lead to, with side effects on.',
    }),
    sample: Type.Array(Type.Object({ streamId: Type.String(), type: Type.String(), at: Time }), {
      description: 'The first of the events.',
    }),
  },
  { description: 'What the replay would do. Nothing was done.' },
);
const Wanted = Strict({
  from: { ...Time, description: 'Events that were decided from then on.' },
  to: Type.Optional({ ...Time, description: 'And before. Default: now.' }),
  types: Type.Optional(
    Type.Array(Type.String({ maxLength: 64 }), {
      minItems: 1,
      maxItems: 100,
      description: 'Default: all that the group may react to.',
    }),
  ),
  sideEffects: Type.Optional({
    ...SideEffects,
    default: 'off',
    description: '`off`: what it would do is counted. `on`: it is done.',
  }),
  rate: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 10_000,
      description: `Events a second, of those that anything follows from. Default: ${REPLAY_RATES.on}, and ${REPLAY_RATES.off} without side effects.`,
    }),
  ),
  plan: Type.Optional(
    Type.String({
      maxLength: 64,
      description:
        '`digest` of the answer to `?dryRun=true`: only that is done. Needed with side effects; without them, what is there now is counted.',
    }),
  ),
  reason: Reason,
});
const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'A job replays them; its progress and its result say {sideEffects, events, jobs}.' },
);

type Bounds = {
  readonly group: string;
  readonly from: Date;
  readonly to?: Date;
  readonly types?: readonly string[];
};

export type ReplayRoutesDeps = {
  readonly contextOf: ContextOf;
  readonly foreseeReplay: (
    wanted: Bounds,
  ) => Promise<
    { readonly ok: true; readonly plan: ReadonlyPlan } | { readonly ok: false; readonly refusal: Refusal }
  >;
  readonly requestReplay: (
    context: CommandContext,
    wanted: Bounds & {
      readonly sideEffects: SideEffects;
      readonly rate: number;
      readonly plan?: string;
    },
  ) => Promise<CommandResult<JobAccepted>>;
};

type ReadonlyPlan = Omit<Static<typeof Plan>, 'partitions' | 'sample'> & {
  readonly partitions: readonly Static<typeof Plan>['partitions'][number][];
  readonly sample: readonly Static<typeof Plan>['sample'][number][];
};

/** Giving past events to a reactor again: a plan first, then a job that does what was planned. For operators. */
export function replayRoutes(deps: ReplayRoutesDeps): Routes {
  return (app) => {
    app.post(
      '/v1/ops/groups/:name/replay',
      {
        schema: {
          summary: 'Give past events to a consumer group again, beside what it reads',
          tags: ['Operation'],
          operationId: 'replayGroup',
          params: Type.Object({ name: Type.String({ maxLength: 100, description: 'Of the group.' }) }),
          querystring: DryRun,
          body: Wanted,
          response: { 200: Plan, 202: Accepted },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const { plan, reason, sideEffects = 'off' } = request.body;
        const { rate = REPLAY_RATES[sideEffects] } = request.body;
        const wanted = boundsOf(request.params.name, request.body);
        if (request.query.dryRun) {
          const foreseen = await deps.foreseeReplay(wanted);
          if (!foreseen.ok) throw new Problem(foreseen.refusal.code, foreseen.refusal.detail);
          const { partitions, sample, ...rest } = foreseen.plan;
          return reply.code(200).send({ ...rest, partitions: [...partitions], sample: [...sample] });
        }
        if (sideEffects === 'on' && plan === undefined) {
          throw faulty('/plan', 'is the digest that ?dryRun=true answers');
        }
        const context = reasonedContext(deps.contextOf, request, reason);
        const done = doneOf(
          await deps.requestReplay(context, {
            ...{ ...wanted, sideEffects, rate },
            ...(plan === undefined ? {} : { plan }),
          }),
        );
        commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );
  };
}

function boundsOf(group: string, { from, to, types }: Static<typeof Wanted>): Bounds {
  const bounds = { group, from: new Date(from), ...(types ? { types } : {}) };
  if (to === undefined) return bounds;
  if (Date.parse(to) < Date.parse(from)) throw faulty('/to', 'is before `from`');
  return { ...bounds, to: new Date(to) };
}

function faulty(pointer: string, detail: string): Problem {
  return new Problem('invalid_request', 'The replay is not clear; see errors.', {
    errors: [{ pointer, detail }],
  });
}
