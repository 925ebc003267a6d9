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
};
