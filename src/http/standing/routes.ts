import { Type } from 'typebox';
import { revalidatedList } from '../caching.ts';
import { operatorOf } from '../operators.ts';
import { Problem } from '../problems.ts';
import { NotModified } from '../schemas.ts';
import type { Routes } from '../types.ts';
import { type ParkedDeps, parkedRoute } from './parked.ts';
import {
  GroupStanding,
  Groups,
  Overview,
  type PartitionStanding,
  Partitions,
  type ProjectionStanding,
  Projections,
  type WorkerStanding,
  Workers,
} from './schemas.ts';

/** Where everything stands. */
export type Standing = {
  readonly overview: Overview;
  readonly partitions: readonly PartitionStanding[];
  readonly groups: readonly GroupStanding[];
  readonly workers: readonly WorkerStanding[];
  readonly projections: readonly ProjectionStanding[];
};

export type StandingRoutesDeps = ParkedDeps & { readonly readStanding: () => Promise<Standing> };

/** How far everything is, and who does it. For operators. */
export function standingRoutes({ readStanding, ...parked }: StandingRoutesDeps): Routes {
  return (app) => {
    const operation = (operationId: string, summary: string) => ({
      operationId,
      summary,
      tags: ['Operation'],
    });
    const config = { auth: 'account', forbids: true } as const;
    app.get(
      '/v1/ops/overview',
      {
        schema: {
          ...operation('readOverview', 'Read where everything stands'),
          response: { 200: Overview, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        revalidatedList(reply);
        return (await readStanding()).overview;
      },
    );
    app.get(
      '/v1/ops/partitions',
      {
        schema: {
          ...operation('listPartitions', 'List the partitions: heads, logs, owners'),
          response: { 200: Partitions, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        revalidatedList(reply);
        return { items: [...(await readStanding()).partitions] };
      },
    );
    app.get(
      '/v1/ops/groups',
      {
        schema: {
          ...operation('listGroups', 'List the consumer groups: positions, lag, owners'),
          response: { 200: Groups, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        revalidatedList(reply);
        return { items: [...(await readStanding()).groups] };
      },
    );
    app.get(
      '/v1/ops/groups/:name',
      {
        schema: {
          ...operation('readGroup', 'Read how far a consumer group is'),
          params: Type.Object({ name: Type.String({ maxLength: 100 }) }),
          response: { 200: { ...GroupStanding, description: 'A consumer group.' }, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        const { groups } = await readStanding();
        const found = groups.find(({ id }) => id === request.params.name);
        if (!found) throw new Problem('not_found', 'There is no such group.');
        revalidatedList(reply);
        return found;
      },
    );
    app.get(
      '/v1/ops/workers',
      {
        schema: {
          ...operation('listWorkers', 'List the processes that run, and what they hold'),
          response: { 200: Workers, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        revalidatedList(reply);
        return { items: [...(await readStanding()).workers] };
      },
    );
    app.get(
      '/v1/ops/projections',
      {
        schema: {
          ...operation(
            'listProjections',
            'List the read models: how far each is, and what it could not apply',
          ),
          response: { 200: Projections, 304: NotModified },
        },
        config,
      },
      async (request, reply) => {
        operatorOf(request);
        const { overview, projections } = await readStanding();
        // Which there are is written there alone: none would be a lie.
        if (!overview.postgres.ok) throw new Problem('read_store_unavailable', 'The database is away.');
        revalidatedList(reply);
        return { items: [...projections] };
      },
    );
    parkedRoute(app, parked);
  };
}
