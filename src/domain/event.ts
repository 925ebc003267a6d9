import type { EventId, StreamId } from './ids.ts';

/** What every event carries besides its data. Written once, by the command that caused it. */
export type EventMeta = {
  /** Version of the shape of `data`; `events.ts` upcasts what is older. */
  readonly schema: number;
  /** When the command decided it, RFC 3339 UTC, milliseconds. Order comes from `seq`, never from this. */
  readonly at: string;
  /** Whose event it is: the account that may read and export it. Absent: the installation's own. */
  readonly owner?: string;
  /** Who did it: an account, or `system:<part>`. */
  readonly actor: string;
  /** Shared by all that follows from one request. */
  readonly correlation: string;
  /** Id of the event that this one reacts to. */
  readonly causation?: string;
  /** The reactor that reacted to it, and the seq of that event in its partition: so a lost cursor is found again. */
  readonly reaction?: { readonly reactor: string; readonly seq: number };
  /**
   * The replay that it came of, with the reactor and the seq of the event that this was about. Not a `reaction`: where the
   * reactor itself stands it says nothing about.
   */
  readonly replay?: { readonly id: string; readonly reactor: string; readonly seq: number };
  /** Why somebody did it, in their words: an operator's change says so. At most 500 characters. */
  readonly reason?: string;
  /** W3C trace context of the commit that wrote it. */
  readonly traceparent?: string;
  /** The idempotency key (its HMAC) that the commit answered, so that recovery can restore the claim. */
  readonly claim?: { readonly key: string; readonly fingerprint: string; readonly answer: string };
};

/** What `evolve` may see of an event's metadata. */
export type FoldMeta = Pick<EventMeta, 'at' | 'owner' | 'correlation'>;

/** An event as the log and the ledger hold it. `data` and `meta` are their exact JSON texts. */
export type RawEvent = {
  readonly partition: number;
  readonly epoch: number;
  readonly seq: number;
  readonly id: EventId;
  readonly streamId: StreamId;
  /** 1 for the first event of its stream; dense. */
  readonly version: number;
  readonly type: string;
  readonly data: string;
  readonly meta: string;
};

/** An event as code reads it: upcast and typed by its `type`. */
export type Recorded<E extends { type: string; data: unknown }> = E extends unknown
  ? Omit<RawEvent, 'type' | 'data' | 'meta'> & {
      readonly type: E['type'];
      readonly data: E['data'];
      readonly meta: EventMeta;
    }
  : never;
