import type { LedgerTables } from '../eventstore/tables.ts';
import type { AccountsTable } from './accounts.ts';
import type { DeadLettersTable } from './dead-letters/table.ts';
import type { ExportsTable } from './exports.ts';
import type { JobsTable } from './jobs/table.ts';
import type { ParkedEventsTable } from './parked.ts';
import type { SchedulesTable } from './schedules.ts';

/** Read models, a table per projection and version, and what was kept out of them. */
export type ReadModelTables = {
  accounts_v1: AccountsTable;
  jobs_v2: JobsTable;
  exports_v1: ExportsTable;
  schedules_v1: SchedulesTable;
  dead_letters_v1: DeadLettersTable;
  parked_events: ParkedEventsTable;
};

/** What projections and their queries see of the database. */
export type Database = LedgerTables & ReadModelTables;
