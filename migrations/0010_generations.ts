import { type Kysely, sql } from 'kysely';

/**
 * A read model's rows are in the table of its current generation; its own name is a view of that table, which queries
 * read. A rebuild fills the table of the next generation, and moves view and row in one transaction.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE read_models (
      projection text NOT NULL,
      version int NOT NULL,
      generation int NOT NULL,
      table_name text NOT NULL,
      -- That of the generation before, until somebody drops it.
      previous_table text,
      -- When it held for the first time all that was to be read: until then it is not fit to be queried.
      caught_up_at timestamptz,
      PRIMARY KEY (projection, version)
    );

    ALTER TABLE parked_events ADD COLUMN because text NOT NULL DEFAULT 'reducer';

    CREATE TABLE rebuilds (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      projection text NOT NULL,
      version int NOT NULL,
      generation int NOT NULL,
      group_name text NOT NULL,
      table_name text NOT NULL,
      phase text NOT NULL,
      -- Events that can't be applied are parked, as usual; else they end the rebuild.
      parks boolean NOT NULL,
      drops_previous boolean NOT NULL,
      -- Heads of the ledger at the beginning, by partition.
      targets bigint[] NOT NULL,
      -- The record of who asked for it: asked twice, it is begun once.
      operation text UNIQUE,
      problem text,
      -- How far it was when somebody looked last: events of all partitions, and events a second.
      position bigint NOT NULL DEFAULT 0,
      target bigint NOT NULL DEFAULT 0,
      rate double precision,
      closing double precision,
      sampled_at timestamptz NOT NULL DEFAULT now(),
      asked_by text NOT NULL,
      asked_for text NOT NULL,
      begun_at timestamptz NOT NULL DEFAULT now(),
      ended_at timestamptz
    );
    CREATE UNIQUE INDEX rebuilds_one_at_a_time ON rebuilds (projection, version) WHERE ended_at IS NULL;

    -- For migrations that make a read model: after CREATE TABLE jobs_v3 (…), SELECT make_read_model('jobs', 3).
    CREATE FUNCTION make_read_model(projection text, version int) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
      named text := format('%s_v%s', replace(projection, '-', '_'), version);
    BEGIN
      EXECUTE format('ALTER TABLE %I RENAME TO %I', named, named || '_g1');
      EXECUTE format('CREATE VIEW %I AS SELECT * FROM %I', named, named || '_g1');
      -- Where nothing has happened yet, it holds all that has.
      INSERT INTO read_models VALUES (projection, version, 1, named || '_g1', NULL, CASE
        WHEN NOT EXISTS (SELECT FROM checkpoints WHERE group_name = 'ledger' AND seq > 0) THEN now() END);
    END $$;

    SELECT make_read_model('accounts', 1), make_read_model('jobs', 2), make_read_model('exports', 1),
      make_read_model('schedules', 1), make_read_model('dead-letters', 1);
    -- What is there was in use already.
    UPDATE read_models SET caught_up_at = now();
  `.execute(db);
}
