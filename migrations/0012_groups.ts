import { type Kysely, sql } from 'kysely';

/** What operators did to consumer groups: pauses, cursors that were moved by hand, and how far replays are. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE group_pauses (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      group_name text COLLATE "C" NOT NULL,
      -- The record of it: asked for again, a pause is not made anew after it has ended.
      operation text COLLATE "C" NOT NULL UNIQUE,
      paused_at timestamptz NOT NULL DEFAULT now(),
      paused_by text NOT NULL,
      paused_for text NOT NULL,
      resume_operation text COLLATE "C" UNIQUE,
      resumed_at timestamptz,
      resumed_by text,
      resumed_for text
    );
    CREATE UNIQUE INDEX group_pauses_one_at_a_time ON group_pauses (group_name) WHERE resumed_at IS NULL;

    -- A row for each partition: where its cursor was, and where it was put.
    CREATE TABLE cursor_moves (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      operation text COLLATE "C" NOT NULL,
      group_name text COLLATE "C" NOT NULL,
      partition int NOT NULL,
      from_cursor text NOT NULL,
      to_cursor text NOT NULL,
      -- The partition's last event when it was moved; null: it is not known to have been.
      head_epoch int,
      head_seq bigint,
      moved_at timestamptz NOT NULL DEFAULT now(),
      moved_by text NOT NULL,
      moved_for text NOT NULL,
      -- The operation whose moves this one takes back.
      undoes text COLLATE "C",
      UNIQUE (operation, partition)
    );
    CREATE INDEX cursor_moves_newest ON cursor_moves (group_name, partition, id DESC);

    CREATE TABLE replay_positions (
      replay text COLLATE "C" NOT NULL,
      partition int NOT NULL,
      seq bigint NOT NULL,
      events bigint NOT NULL,
      jobs bigint NOT NULL,
      PRIMARY KEY (replay, partition)
    );
  `.execute(db);
}
