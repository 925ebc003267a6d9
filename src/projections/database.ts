import type { LedgerTables } from '../eventstore/tables.ts';
import type { AccountsTable } from './accounts.ts';
import type { DeadLettersTable } from './dead-letters/table.ts';
import type { ErasuresTable } from './erasures.ts';
import type { ExportsTable } from './exports.ts';
import type { ReadModelsTable, RebuildsTable } from './generations.ts';
import type { JobsTable } from './jobs/table.ts';
import type { OperationsTable } from './operations/table.ts';
import type { ParkedEventsTable } from './parked.ts';
import type { SchedulesTable } from './schedules.ts';

/**
 * Read models, a view per projection and version of its current generation's table; what was kept out of them, and what is
 * known of generations.
 */
export type ReadModelTables = {
  accounts_v1: AccountsTable;
  jobs_v2: JobsTable;
  exports_v1: ExportsTable;
  schedules_v1: SchedulesTable;
  dead_letters_v1: DeadLettersTable;
  operations_v1: OperationsTable;
  erasures_v1: ErasuresTable;
  parked_events: ParkedEventsTable;
  read_models: ReadModelsTable;
  rebuilds: RebuildsTable;
};

/** What projections and their queries see of the database. */
export type Database = LedgerTables & ReadModelTables;
