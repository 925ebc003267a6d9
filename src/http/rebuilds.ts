import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { Refusal } from '../domain/decision.ts';
import type { RebuildView } from '../projections/rebuild/progress.ts';
import { revalidatedList } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { NotModified, Strict, Time, Version } from './schemas.ts';
import type { Routes } from './types.ts';

const Events = (description: string) => Type.Integer({ minimum: 0, description });
const Rebuild = Type.Object(
  {
    id: Type.String({ description: 'The read model.' }),
    version: Version,
    generation: Type.Integer({ description: 'Of its table.' }),
    phase: Type.Enum(['filling', 'indexing', 'catching up', 'swapped', 'cancelled', 'failed']),
    position: Events('How many events of all partitions it has read.'),
    target: Events('How many there are; more arrive.'),
    rate: Type.Optional(Type.Integer({ description: 'Events a second, lately.' })),
    secondsLeft: Type.Optional(
      Type.Integer({ minimum: 0, description: 'As it goes now; absent while it comes no nearer.' }),
    ),
    beganAt: Time,
    endedAt: Type.Optional(Time),
    problem: Type.Optional(Type.String({ description: 'Why it failed.' })),
    by: Type.String(),
    reason: Type.String(),
  },
  { description: 'A rebuild of a read model, under way or over.' },
);
const Params = Type.Object({ name: Type.String({ maxLength: 100, description: 'Of the read model.' }) });

export type RebuildRoutesDeps = {
  readonly contextOf: ContextOf;
  readonly lastRebuild: (name: string) => Promise<RebuildView | undefined>;
  readonly foreseeRebuild: (
    name: string,
  ) => Promise<
    { readonly ok: true; readonly events: number } | { readonly ok: false; readonly refusal: Refusal }
  >;
  readonly foreseeCancel: (
    name: string,
  ) => Promise<
    { readonly ok: true; readonly rebuild: RebuildView } | { readonly ok: false; readonly refusal: Refusal }
  >;
  readonly rebuild: (
    context: CommandContext,
    name: string,
    settings: { readonly park: boolean; readonly drop: boolean },
  ) => Promise<CommandResult<RebuildView>>;
  readonly cancel: (context: CommandContext, name: string) => Promise<CommandResult<RebuildView>>;
};

/** Making read models anew. For operators. */
export function rebuildRoutes(deps: RebuildRoutesDeps): Routes {
  return (app) => {
    app.get(
      '/v1/ops/projections/:name/rebuild',
      {
        schema: {
          summary: 'Read how far the newest rebuild of a read model is',
          tags: ['Operation'],
          operationId: 'readRebuild',
          params: Params,
          response: { 200: Rebuild, 304: NotModified },
        },
        config: { auth: 'account', forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const found = await deps.lastRebuild(request.params.name);
        if (!found) throw new Problem('not_found', 'It was never rebuilt, or there is no such read model.');
        revalidatedList(reply);
        return bodyOf(found);
      },
    );
    app.post(
      '/v1/ops/projections/:name/rebuild',
      {
        schema: {
          summary:
            'Make a read model anew beside the one that is read, and go over to it; queries are served all the while',
          tags: ['Operation'],
          operationId: 'rebuildProjection',
          params: Params,
          querystring: DryRun,
          body: Strict({
            reason: Reason,
            park: Type.Optional(
              Type.Boolean({ description: 'Park what can not be applied; else it ends the rebuild.' }),
            ),
            drop: Type.Optional(
              Type.Boolean({ description: 'Drop the old table afterwards; else the next rebuild does.' }),
            ),
          }),
          response: { 200: Foreseen, 202: Rebuild },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const { name } = request.params;
        if (request.query.dryRun) {
          const foreseen = allowed(await deps.foreseeRebuild(name));
          return reply.code(200).send({ count: foreseen.events, sample: [] });
        }
        const { reason, park = false, drop = false } = request.body;
        const context = reasonedContext(deps.contextOf, request, reason);
        const done = doneOf(await deps.rebuild(context, name, { park, drop }));
        return answer(reply, done, name);
      },
    );
    app.post(
      '/v1/ops/projections/:name/rebuild/cancel',
      {
        schema: {
          summary: 'End a rebuild that is under way; nothing is left of it',
          tags: ['Operation'],
          operationId: 'cancelRebuild',
          params: Params,
          querystring: DryRun,
          body: Strict({ reason: Reason }),
          response: { 200: Foreseen, 202: Rebuild },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const { name } = request.params;
        if (request.query.dryRun) {
          const { phase: status } = allowed(await deps.foreseeCancel(name)).rebuild;
          return reply.code(200).send({ count: 1, sample: [{ id: name, status }] });
        }
        const context = reasonedContext(deps.contextOf, request, request.body.reason);
        return answer(reply, doneOf(await deps.cancel(context, name)), name);
      },
    );
  };
}

function answer(
  reply: Parameters<typeof commandAnswer>[0],
  done: Extract<CommandResult<RebuildView>, { kind: 'done' }>,
  name: string,
) {
  commandAnswer(reply, done, { status: 202, location: `/v1/ops/projections/${name}/rebuild` });
  return reply.code(202).send(bodyOf(done.body));
}

const bodyOf = ({ projection: id, ...rest }: RebuildView) => ({ id, ...rest });

function allowed<T extends { readonly ok: boolean }>(
  decision: T | { readonly ok: false; readonly refusal: Refusal },
): Extract<T, { ok: true }> {
  if ('refusal' in decision && !decision.ok)
    throw new Problem(decision.refusal.code, decision.refusal.detail);
  return decision as Extract<T, { ok: true }>;
}
