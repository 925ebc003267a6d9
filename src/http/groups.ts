import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { Refusal } from '../domain/decision.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { Strict, Version } from './schemas.ts';
import type { App, Routes } from './types.ts';

const Params = Type.Object({
  name: Type.String({ maxLength: 100, description: 'Of the group, or of the read model.' }),
});
const Changed = Type.Object(
  { id: Type.String({ description: 'The group.' }), version: Version, paused: Type.Boolean() },
  { description: 'It is so from now on, and within about a second in every process.' },
);

type Change = 'pause' | 'resume';

export type GroupRoutesDeps = {
  readonly contextOf: ContextOf;
  /** The group that keeps a read model up to date. Undefined: there is no such read model. */
  readonly groupOfReadModel: (name: string) => string | undefined;
  readonly changeGroup: (
    context: CommandContext,
    change: Change,
    group: string,
  ) => Promise<CommandResult<{ readonly id: string; readonly version: number; readonly paused: boolean }>>;
  readonly foreseeGroupChange: (
    change: Change,
    group: string,
  ) => Promise<
    { readonly ok: true; readonly changes: boolean } | { readonly ok: false; readonly refusal: Refusal }
  >;
};

/** Pausing what reads the log in order: projections and reactors. For operators. */
export function groupRoutes(deps: GroupRoutesDeps): Routes {
  return (app) => {
    for (const change of ['pause', 'resume'] as const) {
      changeOf(app, deps, change, 'groups', (name) => name);
      changeOf(app, deps, change, 'projections', (name) => {
        const group = deps.groupOfReadModel(name);
        if (group === undefined) throw new Problem('not_found', 'There is no such read model.');
        return group;
      });
    }
  };
}

const SUMMARIES = {
  groups: {
    pause: 'Pause a consumer group: it applies nothing more until it is resumed',
    resume: 'Resume a consumer group: it goes on where it stands',
  },
  projections: {
    pause: 'Pause a read model: it stays as it is until it is resumed',
    resume: 'Resume a read model: it goes on where it stands',
  },
};
const IDS = { groups: 'Group', projections: 'Projection' };

function changeOf(
  app: App,
  deps: GroupRoutesDeps,
  change: Change,
  kind: 'groups' | 'projections',
  groupOf: (name: string) => string,
): void {
  app.post(
    `/v1/ops/${kind}/:name/${change}`,
    {
      schema: {
        summary: SUMMARIES[kind][change],
        tags: ['Operation'],
        operationId: `${change}${IDS[kind]}`,
        params: Params,
        querystring: DryRun,
        body: Strict({ reason: Reason }),
        response: { 200: Foreseen, 202: Changed },
      },
      config: { auth: 'account', command: true, forbids: true },
    },
    async (request, reply) => {
      operatorOf(request);
      const group = groupOf(request.params.name);
      if (request.query.dryRun) {
        const foreseen = await deps.foreseeGroupChange(change, group);
        if (!foreseen.ok) throw new Problem(foreseen.refusal.code, foreseen.refusal.detail);
        const status = change === 'pause' ? 'running' : 'paused';
        const sample = foreseen.changes ? [{ id: group, status }] : [];
        return reply.code(200).send({ count: sample.length, sample });
      }
      const context = reasonedContext(deps.contextOf, request, request.body.reason);
      const done = doneOf(await deps.changeGroup(context, change, group));
      commandAnswer(reply, done, { status: 202, location: `/v1/ops/groups/${group}` });
      return reply.code(202).send(done.body);
    },
  );
}
