import type { Generated } from 'kysely';

/** Tables of the ledger, as Kysely sees them. `bigint` columns hold seqs below 2^53 and are read as numbers. */
export type LedgerTables = {
  installation: {
    only: Generated<boolean>;
    store_id: string;
    partitions: number;
    recovery: Generated<number>;
    created_at: Generated<Date>;
  };
  ledger: {
    partition: number;
    seq: number;
    epoch: number;
    event_id: string;
    stream_id: string;
    version: number;
    type: string;
    owner: string | null;
    correlation: string | null;
    recorded_at: Date;
    data: string;
    meta: string;
  };
  stream_heads: { stream_id: string; partition: number; version: number; seq: number };
  ledger_batches: {
    partition: number;
    last_seq: number;
    first_seq: number;
    previous: Buffer;
    hash: Buffer;
    appended_at: Generated<Date>;
  };
  /** Old parts of the ledger that lie in files: from the row on, the file is where these events are. */
  ledger_archives: {
    partition: number;
    last_seq: number;
    first_seq: number;
    last_epoch: number;
    events: number;
    first_at: Date;
    last_at: Date;
    file: string;
    bytes: number;
    /** Of the file, 64 hex digits. */
    sha256: string;
    archived_at: Generated<Date>;
    archived_by: string;
    archived_for: string;
    /** When the last of its rows had left the ledger; null: some may be there still. */
    emptied_at: Date | null;
  };
  archived_streams: {
    stream_id: string;
    last_version: number;
    first_version: number;
    partition: number;
    /** `last_seq` of the archive. */
    archive: number;
    /** Of the stream's last event there. */
    last_seq: number;
  };
  archived_owners: { owner: string; partition: number; archive: number; events: number };
  checkpoints: {
    group_name: string;
    partition: number;
    epoch: Generated<number>;
    seq: Generated<number>;
    event_id: string | null;
    /** Highest fencing token seen; an owner with a lower one writes nothing. */
    token: Generated<number>;
    moved_at: Generated<Date>;
  };
  epochs: {
    partition: number;
    epoch: number;
    first_seq: number;
    last_seq: number | null;
    run_id: string;
    started_at: Generated<Date>;
  };
  losses: {
    partition: number;
    epoch: number;
    seq: number;
    last_seq: number;
    noticed_at: Generated<Date>;
    accepted_at: Date | null;
    accepted_by: string | null;
    accepted_for: string | null;
  };
  recoveries: {
    recovery: number;
    problem: string;
    asked_by: string;
    asked_for: string;
    begun_at: Generated<Date>;
    ended_at: Date | null;
  };
  quarantined_events: {
    partition: number;
    epoch: number;
    seq: number;
    event_id: string;
    stream_id: string;
    version: number;
    type: string;
    data: string;
    meta: string;
    quarantined_at: Generated<Date>;
  };
  /** A pause of a consumer group, over or not. */
  group_pauses: {
    id: Generated<number>;
    group_name: string;
    operation: string;
    paused_at: Generated<Date>;
    paused_by: string;
    paused_for: string;
    resume_operation: string | null;
    resumed_at: Date | null;
    resumed_by: string | null;
    resumed_for: string | null;
  };
  /** Cursors of reactors that were moved by hand. */
  cursor_moves: {
    id: Generated<number>;
    operation: string;
    group_name: string;
    partition: number;
    from_cursor: string;
    to_cursor: string;
    head_epoch: number | null;
    head_seq: number | null;
    moved_at: Generated<Date>;
    moved_by: string;
    moved_for: string;
    undoes: string | null;
  };
  /** How far a replay is, and what it came to until there. */
  replay_positions: { replay: string; partition: number; seq: number; events: number; jobs: number };
};
