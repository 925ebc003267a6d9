import { type Static, Type } from 'typebox';
import { Strict, Time } from '../schemas.ts';

const Count = (description: string) => Type.Integer({ minimum: 0, description });
const Seconds = (description: string) => Type.Number({ minimum: 0, description });
const LagEvents = Type.Optional(
  Count('Events that it has not taken yet. Absent: unknown, as a server is away.'),
);
const LagSeconds = Type.Optional(Seconds('Age of the oldest of these.'));

const Server = Type.Object({
  ok: Type.Boolean(),
  detail: Type.Optional(Type.String({ description: 'What is wrong.' })),
});

export const PartitionStanding = Type.Object({
  partition: Type.Integer({ minimum: 0 }),
  epoch: Type.Optional(Type.Integer({ description: 'Of positions. Absent: Redis has no such partition.' })),
  head: Type.Optional(Count('Events there ever were.')),
  logLength: Type.Optional(Count('Of these, the ones that Redis holds.')),
  logFirst: Type.Optional(Count('The oldest of them.')),
  ledger: Type.Optional(Count('Up to here Postgres holds them.')),
  ledgerLag: LagEvents,
  owners: Type.Record(Type.String(), Type.String(), { description: 'Who holds the lease of each group.' }),
});
export type PartitionStanding = Static<typeof PartitionStanding>;

const share = {
  partition: Type.Integer({ minimum: 0 }),
  owner: Type.Optional(Type.String({ description: 'Absent: nobody has it.' })),
  position: Type.Optional(Count('The last event that it took. Absent: unknown, or it takes none in order.')),
  target: Type.Optional(Count('The last event there is.')),
  lagEvents: LagEvents,
  lagSeconds: LagSeconds,
};
const Pause = Type.Object({ since: Time, by: Type.String(), reason: Type.String() });

export const GroupStanding = Type.Object({
  id: Type.String(),
  kind: Type.Enum(['ledger', 'projection', 'reactor', 'work'], {
    description: 'What takes work takes it in no order, so it has no position.',
  }),
  members: Type.Optional(
    Type.Array(Type.String(), { description: 'Processes that run it. Absent: unknown.' }),
  ),
  owned: Type.Optional(Count('Partitions that somebody has. Absent: unknown.')),
  partitions: Count('Partitions there are.'),
  lagEvents: LagEvents,
  lagSeconds: LagSeconds,
  parked: Type.Optional(Count('Events that it could not apply.')),
  pending: Type.Optional(Count('Of a lane: what its owners have taken and not finished.')),
  oldestPendingSeconds: Type.Optional(
    Seconds('How long ago the oldest of that came. Absent: there is none.'),
  ),
  paused: Type.Optional(Pause),
  shares: Type.Array(Type.Object(share)),
});
export type GroupStanding = Static<typeof GroupStanding>;

export const WorkerStanding = Type.Object({
  member: Type.String(),
  role: Type.String(),
  groups: Type.Array(Type.String(), { description: 'That its code has, or, of an API, that it reads.' }),
  leases: Count('Shares that it holds.'),
});
export type WorkerStanding = Static<typeof WorkerStanding>;

const Rebuild = Type.Object({
  generation: Type.Integer(),
  phase: Type.String(),
  position: Count('Events read.'),
  target: Count('Events there are.'),
  rate: Type.Optional(Type.Number({ description: 'Events a second.' })),
  secondsLeft: Type.Optional(Seconds('Absent: nobody can tell.')),
  beganAt: Time,
  endedAt: Type.Optional(Time),
  problem: Type.Optional(Type.String()),
  by: Type.String(),
  reason: Type.String(),
});

export const ProjectionStanding = Type.Object({
  id: Type.String({ description: 'Its name.' }),
  version: Type.Integer(),
  current: Type.Boolean({ description: 'It is the version that this process reads.' }),
  table: Type.String(),
  generation: Type.Integer(),
  group: Type.String(),
  caughtUpAt: Type.Optional({
    ...Time,
    description: 'When it was complete for the first time. Absent: never yet.',
  }),
  position: Type.Optional(Count('Events that it has taken, of all partitions.')),
  target: Type.Optional(Count('Events there are, of all partitions.')),
  lagEvents: LagEvents,
  lagSeconds: LagSeconds,
  parked: Type.Optional(Count('Events that it could not apply.')),
  parkedRows: Type.Optional(Count('Rows that wait for these.')),
  paused: Type.Optional(Pause),
  shares: Type.Array(Type.Object(share)),
  rebuild: Type.Optional({ ...Rebuild, description: 'The last one, under way or not.' }),
});
export type ProjectionStanding = Static<typeof ProjectionStanding>;

export const Overview = Type.Object(
  {
    redis: Server,
    postgres: Server,
    commits: Type.Object({
      stopped: Type.Boolean(),
      because: Type.Optional(Type.String()),
    }),
    memoryUsed: Type.Optional(
      Type.Number({ description: 'Of Redis, as a part of its limit: commands stop at 0.75.' }),
    ),
    partitions: Type.Integer({ minimum: 1 }),
    events: Type.Optional(Count('Events there ever were.')),
    inLog: Type.Optional(Count('Of these, the ones that Redis holds.')),
    parked: Type.Optional(Count('Events that some read model could not apply.')),
    processes: Type.Record(Type.String(), Type.Integer({ minimum: 0 }), { description: 'By role.' }),
    groups: Type.Array(Type.Omit(GroupStanding, ['shares', 'members'])),
    rebuilding: Type.Array(Type.String(), { description: 'Read models that are rebuilt now.' }),
  },
  { description: 'Where everything stands. What can’t be known, as a server is away, is left out.' },
);
export type Overview = Static<typeof Overview>;

const list = <T extends Parameters<typeof Type.Array>[0]>(item: T, description: string) =>
  Type.Object({ items: Type.Array(item) }, { description });
export const Partitions = list(PartitionStanding, 'All partitions.');
export const Groups = list(GroupStanding, 'All groups.');
export const Workers = list(WorkerStanding, 'All processes that were heard of within nine seconds.');
export const Projections = list(
  ProjectionStanding,
  'All read models, those of other releases that are kept among them.',
);
export const NoQuery = Strict({});
