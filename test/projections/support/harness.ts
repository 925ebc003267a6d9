import { sql } from 'kysely';
import type { RawEvent } from '../../../src/domain/event.ts';
import { codec } from '../../../src/domain/events.ts';
import { readCheckpoint } from '../../../src/eventstore/checkpoints.ts';
import type { Checkpoint, OrderedGroup } from '../../../src/eventstore/types.ts';
import * as accounts from '../../../src/projections/accounts.ts';
import * as deadLetters from '../../../src/projections/dead-letters/table.ts';
import * as erasures from '../../../src/projections/erasures.ts';
import * as exports from '../../../src/projections/exports.ts';
import * as jobs from '../../../src/projections/jobs/table.ts';
import * as operations from '../../../src/projections/operations/table.ts';
import type { AnyProjection, AnyRow } from '../../../src/projections/projection.ts';
import { type FillOptions, fillPartition } from '../../../src/projections/rebuild/fill.ts';
import { beginRebuild, type Rebuild } from '../../../src/projections/rebuild/rebuilds.ts';
import { swap } from '../../../src/projections/rebuild/swap.ts';
import { createProjectionGroup } from '../../../src/projections/runner.ts';
import * as schedules from '../../../src/projections/schedules.ts';
import type { World } from '../../support/world.ts';

/** A projection with its row type put away: how to run it, what its table holds, what it should hold. */
export type Subject = {
  readonly name: string;
  readonly table: string;
  /** SQL type by column, as the projection says. */
  readonly columns: Readonly<Record<string, string>>;
  group(world: World): OrderedGroup;
  stored(world: World): Promise<AnyRow[]>;
  expected(events: readonly RawEvent[]): AnyRow[];
  begin(world: World, partitions: number): Promise<Rebuild>;
  /** Fills as far as the ledger goes, or the signal lets it. */
  fill(world: World, rebuild: Rebuild, partition: number, token: number, options: FillOptions): Promise<void>;
  swap(world: World, rebuild: Rebuild): ReturnType<typeof swap>;
};

function subject<R extends AnyRow>(projection: AnyProjection<R>): Subject {
  return {
    name: projection.name,
    table: projection.table,
    columns: projection.columns,
    group: (world) => createProjectionGroup({ db: world.db, projection, codec }),
    async stored(world) {
      return (await sql<R>`SELECT * FROM ${sql.table(projection.table)} ORDER BY id`.execute(world.db)).rows;
    },
    expected(events) {
      const rows = new Map<string, R>();
      for (const raw of events) {
        if (!Object.hasOwn(projection.handles, raw.type)) continue;
        const event = codec.decode(raw);
        const key = projection.key(event);
        const row = key === undefined ? undefined : projection.reduce(rows.get(key), event);
        if (key !== undefined && row) rows.set(key, row);
      }
      return [...rows.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
    },
    begin: (world, partitions) =>
      beginRebuild(world.db, projection, { partitions, by: 'a test', reason: 'it is one' }),
    async fill(world, rebuild, partition, token, options) {
      const { group_name: group, table_name: table } = rebuild;
      const from = (await readCheckpoint(world.db, group, partition)) ?? start;
      // As its owner does who takes the partition over.
      await world.db
        .updateTable('checkpoints')
        .set({ token })
        .where('group_name', '=', group)
        .where('partition', '=', partition)
        .where('token', '<=', token)
        .execute();
      await fillPartition(world.db, { projection, group, table }, codec, { partition, from, token }, options);
    },
    swap: (world, rebuild) => swap(world.db, projection, rebuild),
  };
}

/** Every projection there is; the suite fails while one is missing. */
export const subjects: readonly Subject[] = [
  subject(accounts.projection),
  subject(jobs.projection),
  subject(exports.projection),
  subject(schedules.projection),
  subject(deadLetters.projection),
  subject(operations.projection),
  subject(erasures.projection),
];

export const start: Checkpoint = { epoch: 0, seq: 0, eventId: null };

/** Applies events in batches of the given sizes, over and over, from where the group stands. */
export async function applyAll(
  group: OrderedGroup,
  events: readonly RawEvent[],
  token: number,
  sizes: readonly number[] = [500],
): Promise<Checkpoint> {
  const partition = events[0]?.partition ?? 0;
  let at = await group.open(partition, token);
  for (let turn = 0; at.seq < events.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 500;
    at = await group.apply(partition, at, events.slice(at.seq, at.seq + size), token);
  }
  return at;
}

/** As the ledger's group writes them, without the hash chain. */
export async function writeLedger(world: World, events: readonly RawEvent[]): Promise<void> {
  const rows = events.map(({ id, streamId, ...event }) => ({
    ...{ ...event, event_id: id, stream_id: streamId },
    ...{ owner: null, correlation: null, recorded_at: new Date() },
  }));
  if (rows.length > 0) await world.db.insertInto('ledger').values(rows).execute();
}

export async function emptyReadModels(world: World): Promise<void> {
  const models = await world.db.selectFrom('read_models').select('table_name').execute();
  const tables = ['parked_events', 'checkpoints', 'ledger', ...models.map((model) => model.table_name)];
  await sql`TRUNCATE ${sql.join(tables.map((table) => sql.table(table)))}`.execute(world.db);
}
