/**
 * The answer of a `decide` function: events to append (none: the fact is already so), or a refusal that the
 * caller can act on. A refusal is a value; an exception is a bug or an outage.
 */
export type Decision<E> =
  | { readonly ok: true; readonly events: readonly E[] }
  | { readonly ok: false; readonly refusal: Refusal };

/** Stable codes of refusals: part of the HTTP contract, identifiers for life. */
export type RefusalCode =
  | 'account_erased'
  | 'email_taken'
  | 'group_not_pausable'
  | 'group_not_paused'
  | 'group_not_seekable'
  | 'no_rebuild'
  | 'rebuild_under_way'
  | 'wrong_credentials'
  | 'session_ended'
  | 'refresh_token_reused'
  | 'job_changed'
  | 'job_finished'
  | 'job_not_retryable'
  | 'job_not_dead'
  | 'reason_missing'
  | 'not_found'
  | 'not_replayable'
  | 'plan_stale';

export type Refusal = { readonly code: RefusalCode; readonly detail: string };

export function accept<E>(...events: E[]): Decision<E> {
  return { ok: true, events };
}

export function refuse(code: RefusalCode, detail: string): { readonly ok: false; readonly refusal: Refusal } {
  return { ok: false, refusal: { code, detail } };
}

/**
 * How a stream's state follows from its events. `evolve` is pure and never fails.
 * `fold` is raised whenever `evolve` or the shape of the state changes: states kept by other code are then
 * folded anew instead of being trusted.
 */
export type Fold<S, E> = {
  readonly fold: number;
  readonly initial: S;
  readonly evolve: (state: S, event: E) => S;
  /** How the state is kept in Redis, where plain JSON would take too much. */
  readonly kept?: { readonly write: (state: S) => string; readonly read: (text: string) => S };
};
