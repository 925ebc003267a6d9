import { type Generated, type Kysely, sql } from 'kysely';
import type { Database } from './database.ts';
import { type AnyProjection, type AnyRow, groupOf } from './projection.ts';

export type ReadModelsTable = {
  projection: string;
  version: number;
  generation: number;
  table_name: string;
  previous_table: string | null;
  caught_up_at: Date | null;
};

export const REBUILD_PHASES = [
  'filling',
  'indexing',
  'catching up',
  'swapped',
  'cancelled',
  'failed',
] as const;
export type RebuildPhase = (typeof REBUILD_PHASES)[number];

export type RebuildsTable = {
  id: Generated<number>;
  projection: string;
  version: number;
  generation: number;
  group_name: string;
  table_name: string;
  phase: RebuildPhase;
  parks: boolean;
  drops_previous: boolean;
  targets: number[];
  operation: string | null;
  problem: string | null;
  position: Generated<number>;
  target: Generated<number>;
  rate: number | null;
  closing: number | null;
  sampled_at: Generated<Date>;
  asked_by: string;
  asked_for: string;
  begun_at: Generated<Date>;
  ended_at: Date | null;
};

/**
 * One table of a projection's rows, and the group whose checkpoints say how far they are. The live generation's group is
 * the projection's own, whichever the generation; one that is being filled has its own until it goes live.
 */
export type ReadModel<R extends AnyRow> = {
  readonly projection: AnyProjection<R>;
  readonly table: string;
  readonly group: string;
};

/** The generation that queries read. Throws where no migration has made it. */
export async function liveReadModel<R extends AnyRow>(
  db: Kysely<Database>,
  projection: AnyProjection<R>,
): Promise<ReadModel<R>> {
  const { name, version } = projection;
  const row = await db
    .selectFrom('read_models')
    .select('table_name')
    .where('projection', '=', name)
    .where('version', '=', version)
    .executeTakeFirst();
  if (!row)
    throw new Error(
      `no migration has made the read model ${name}, version ${version}: SELECT make_read_model('${name}', ${version})`,
    );
  return { projection, table: row.table_name, group: groupOf(projection) };
}

/** Those of these versions that were never caught up with the log: `jobs@3`. */
export async function missingReadModels(
  db: Kysely<Database>,
  versions: readonly { readonly name: string; readonly version: number }[],
): Promise<string[]> {
  const rows = await db
    .selectFrom('read_models')
    .select(['projection', 'version'])
    .where('caught_up_at', 'is not', null)
    .execute();
  const there = new Set(rows.map(({ projection, version }) => `${projection}@${version}`));
  return versions.map(({ name, version }) => `${name}@${version}`).filter((each) => !there.has(each));
}

/** Partition that a row's key names: rows of a partition change with its checkpoint only. */
export const ofPartition = (partition: number) =>
  sql<boolean>`split_part(id, '-', 2) LIKE ${`${partition.toString(36).padStart(2, '0')}%`}`;
