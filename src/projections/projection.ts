import type { Selectable } from 'kysely';
import type { RawEvent, Recorded } from '../domain/event.ts';
import type { DomainEvent, DomainEventType } from '../domain/events.ts';
import type { StreamId } from '../domain/ids.ts';
import type { ColumnType } from '../eventstore/binary-arrays.ts';
import type { ReadModelTables } from './database.ts';

/** Every read model has one row per key, the key being its column `id`. */
export type AnyRow = { readonly id: string };

/** The table, or tables, whose rows are of a type: that a projection names another's doesn't compile. */
export type TableOf<R extends AnyRow> = string &
  keyof {
    [T in keyof ReadModelTables as Selectable<ReadModelTables[T]> extends R ? T : never]: T;
  };

/** SQL types that a read model's columns may have. JSON is `text`: exact, and safe with any string. */
export type SqlType = ColumnType;

type Folding<R extends AnyRow, E extends DomainEvent> = {
  /** Stored in checkpoints, leases and parked events, together with the version: identifiers for life. */
  readonly name: string;
  /**
   * Raised, with a new table, whenever the rows that follow from the same events change; also when an event
   * type is handled newly that the log may hold already.
   */
  readonly version: number;
  readonly table: TableOf<R>;
  /** Every column of the table; the compiler finds the one that was forgotten. */
  readonly columns: Readonly<Record<keyof R, SqlType>>;
  // Written as methods, whose parameters TypeScript compares both ways: a projection of some events then is
  // `AnyProjection`. The runner passes on only what `handles` names.
  /** The row that an event belongs to; undefined: none. */
  key(event: Recorded<E>): string | undefined;
  /**
   * Whether an event that is handled may concern a row, by a look at its text: one that can't is passed over without being
   * decoded. Default: all may.
   */
  mayConcern?(raw: RawEvent): boolean;
  /** The row of an event that can't be decoded. Default: the one named like its stream. */
  keyOfUndecodable?(raw: RawEvent): string | undefined;
  /** Streams that the events of a row are in. Default: the one named like its key. */
  streamsOf?(key: string): readonly StreamId[];
  /**
   * The row after the event. Undefined: there is none yet, and the event makes none; a row that is there never goes.
   * What it throws parks the event, and the row's later events behind it.
   */
  reduce(row: R | undefined, event: Recorded<E>): R | undefined;
};

/**
 * A read model's meaning, as data and pure functions; the runner does the I/O.
 *
 * All events of one row must live in one partition: its owner alone reads, folds and writes the row. Time, ids
 * and randomness come from the event and from nowhere else, so that a rebuild yields the same rows.
 */
export type Projection<R extends AnyRow, E extends DomainEvent> = Folding<R, E> & {
  /** Event types that may concern a row; all others are passed over without being decoded. */
  readonly handles: Readonly<Record<E['type'], true>>;
};

/** A projection of whichever events, as the runner sees it. */
export type AnyProjection<R extends AnyRow = AnyRow> = Folding<R, DomainEvent> & {
  readonly handles: Readonly<Partial<Record<DomainEventType, true>>>;
};

/** What tells the row of an event. */
export type Keying = Pick<AnyProjection, 'handles' | 'mayConcern' | 'key' | 'keyOfUndecodable'>;

/** The name of a projection's group: `projection:jobs@2`. */
export function groupOf(projection: { readonly name: string; readonly version: number }): string {
  return `projection:${projection.name}@${projection.version}`;
}
