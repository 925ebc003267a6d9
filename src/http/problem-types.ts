import type { RefusalCode } from '../domain/decision.ts';

/** Codes of problems that arise at the edge. Part of the contract, like the domain's: identifiers for life. */
type EdgeCode =
  | 'already_done'
  | 'body_too_large'
  | 'durability_not_reached'
  | 'expectation_failed'
  | 'forbidden'
  | 'headers_too_large'
  | 'idempotency_key_reused'
  | 'internal_error'
  | 'invalid_link'
  | 'invalid_request'
  | 'invalid_token'
  | 'malformed_json'
  | 'malformed_url'
  | 'method_not_allowed'
  | 'not_ready'
  | 'outcome_unknown'
  | 'position_lost'
  | 'range_not_satisfiable'
  | 'rate_limited'
  | 'read_model_behind'
  | 'read_model_parked'
  | 'read_store_unavailable'
  | 'request_timeout'
  | 'shutting_down'
  | 'store_fenced'
  | 'store_unavailable'
  | 'too_busy'
  | 'unauthenticated'
  | 'unsupported_media_type';

export type ProblemCode = EdgeCode | RefusalCode;

type ProblemType = {
  readonly status: number;
  readonly title: string;
  /** For whoever meets it: what it means, and what to do about it. Shown under `/problems/{code}`. */
  readonly help: string;
};

/** The one place where a code becomes HTTP. It does not compile while a code is missing. */
export const problemTypes: Readonly<Record<ProblemCode, ProblemType>> = {
  account_erased: {
    status: 410,
    title: 'The account was erased',
    help: 'All that was known of its person is gone for good. The email may register anew, as another account.',
  },
  already_done: {
    status: 409,
    title: 'This was done before',
    help: 'A request with this Idempotency-Key was carried out. Its answer held secrets, which are kept nowhere, so it cannot be given again. Send the request with a new key.',
  },
  body_too_large: {
    status: 413,
    title: 'The body is too large',
    help: 'Bodies may have up to 1 MiB, unless the route says otherwise.',
  },
  durability_not_reached: {
    status: 504,
    title: 'Done, but not yet as durable as asked',
    help: 'The command stands; the Position header names its last event. It did not reach the durability that was asked for in time. Send it again with the same Idempotency-Key to wait again.',
  },
  email_taken: {
    status: 409,
    title: 'The email is taken',
    help: 'An account with this email exists. Log in, or register with another email.',
  },
  expectation_failed: {
    status: 417,
    title: 'The expectation cannot be met',
    help: 'Of Expect only 100-continue is known here. Send the request without the header; nothing was done.',
  },
  forbidden: {
    status: 403,
    title: 'Not allowed',
    help: 'You are known, but may not do this.',
  },
  group_not_pausable: {
    status: 409,
    title: 'The group cannot be paused',
    help: 'Projections and reactors can be paused; what takes work stops with its queue. The ledger cannot be paused: what it has not copied yet would be lost with Redis, and could not be trimmed from it.',
  },
  group_not_paused: {
    status: 409,
    title: 'The group is not paused',
    help: 'Pause it first: where it stands can be changed only while it stands still.',
  },
  no_rebuild: {
    status: 409,
    title: 'No rebuild is under way',
    help: 'It is over by now, or nobody has begun one. Ask for the newest rebuild of the read model: it says how it ended.',
  },
  rebuild_under_way: {
    status: 409,
    title: 'A rebuild is under way',
    help: 'A read model is rebuilt once at a time. Wait until it is over, or cancel it.',
  },
  group_not_seekable: {
    status: 409,
    title: 'The group cannot be put elsewhere',
    help: 'Only reactors can be put elsewhere in the log. A read model is made anew by a rebuild, as its rows follow from all events before; the ledger holds every event once.',
  },
  headers_too_large: {
    status: 431,
    title: 'The header fields are too large',
    help: 'Send fewer or shorter header fields: 16 KiB in all.',
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The idempotency key was used for another request',
    help: 'A key belongs to one request. Send the same body as the first time, or use a new key.',
  },
  internal_error: {
    status: 500,
    title: 'Something went wrong on our side',
    help: 'This is a bug. Quote the instance or the traceId when you report it.',
  },
  invalid_link: {
    status: 403,
    title: 'The link is not valid, or no longer',
    help: 'Signed links expire. Ask for a new one where you got this one.',
  },
  invalid_request: {
    status: 400,
    title: 'The request is not valid',
    help: 'Each of `errors` says which part of the request is wrong, by JSON pointer into the body or by parameter, and what was expected.',
  },
  invalid_token: {
    status: 401,
    title: 'The access token is not accepted',
    help: 'It is malformed, expired, not signed by us, or its session has ended. Refresh it, or log in again.',
  },
  job_changed: {
    status: 409,
    title: 'The job has changed since',
    help: 'Something happened to the job after what was decided about. Look at it again.',
  },
  job_finished: {
    status: 409,
    title: 'The job has ended',
    help: 'A job that has ended changes no more; its result stands.',
  },
  job_not_dead: {
    status: 409,
    title: 'The job is no dead letter',
    help: 'Only a job that failed for good can be discarded. Ask for its status at `GET /v1/jobs/{id}`.',
  },
  job_not_retryable: {
    status: 409,
    title: 'The job cannot be retried as it is',
    help: 'Only a job that failed for good or was cancelled can be enqueued again. One that waits or runs needs no retry; one that succeeded keeps its result: enqueue another job.',
  },
  malformed_json: {
    status: 400,
    title: 'The body is not JSON',
    help: 'Send valid JSON in UTF-8.',
  },
  malformed_url: {
    status: 400,
    title: 'The URL is malformed',
    help: 'Check the percent-encoding of the path.',
  },
  method_not_allowed: {
    status: 405,
    title: 'The method is not allowed here',
    help: 'The Allow header lists the methods of this path.',
  },
  not_found: {
    status: 404,
    title: 'Not found',
    help: 'There is nothing here, or nothing of yours.',
  },
  not_ready: {
    status: 409,
    title: 'Not ready yet',
    help: 'What you ask for is still being made, or could not be made. Its status says which.',
  },
  not_replayable: {
    status: 409,
    title: 'The group cannot be given these events again',
    help: 'Only reactors can, and only events that they react to. A read model is compared by a verification and made anew by a rebuild.',
  },
  outcome_unknown: {
    status: 504,
    title: 'It is not known whether this was done',
    help: 'The reply of the store was lost. Send the request again with the same Idempotency-Key: it is then done once, whatever happened now.',
  },
  plan_stale: {
    status: 409,
    title: 'The plan is not what would be done now',
    help: 'Since it was made, events have come to it, or other code is running. Nothing was done. Ask for a new plan with `?dryRun=true`, and confirm that, with the `to` that it names.',
  },
  position_lost: {
    status: 410,
    title: 'The position no longer exists',
    help: 'The events up to this position were lost together with Redis. Read without it, and check whether your change is there.',
  },
  range_not_satisfiable: {
    status: 416,
    title: 'The range is outside of the file',
    help: 'Content-Range holds the size of the file.',
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    help: 'Wait as many seconds as Retry-After says. RateLimit-Policy and RateLimit say what is allowed.',
  },
  read_model_behind: {
    status: 503,
    title: 'The read model has not come that far',
    help: 'It did not include the positions of Consistent-With in time. Ask again, or wait longer with Prefer: wait=N.',
  },
  read_model_parked: {
    status: 503,
    title: 'The read model could not take in that position',
    help: 'The event at the position could not be applied and waits for an operator. Reading without Consistent-With goes on.',
  },
  read_store_unavailable: {
    status: 503,
    title: 'The database is away',
    help: 'Nothing was done. Try again as Retry-After says.',
  },
  reason_missing: {
    status: 400,
    title: 'No reason was given',
    help: 'Changes of operators are kept with who made them and why: say why.',
  },
  refresh_token_reused: {
    status: 401,
    title: 'The refresh token was used before',
    help: 'Somebody else may hold it, so its session was ended. Log in again.',
  },
  request_timeout: {
    status: 408,
    title: 'The request took too long to arrive',
    help: 'Send it again.',
  },
  session_ended: {
    status: 401,
    title: 'The session has ended',
    help: 'Log in again.',
  },
  shutting_down: {
    status: 503,
    title: 'This server is stopping',
    help: 'Nothing was done. Try again; another server will answer.',
  },
  store_fenced: {
    status: 503,
    title: 'Commands are stopped',
    help: 'Redis may not hold what the ledger says it should, so nothing is written until that is settled: by itself within seconds after a restart of Redis, by an operator where data is missing. Nothing was done. /readyz says why.',
  },
  store_unavailable: {
    status: 503,
    title: 'Commands are not accepted at the moment',
    help: 'Nothing was done. Try again as Retry-After says.',
  },
  too_busy: {
    status: 503,
    title: 'Too many at once',
    help: 'Nothing was done. Try again as Retry-After says.',
  },
  unauthenticated: {
    status: 401,
    title: 'Who are you?',
    help: 'Send an access token: Authorization: Bearer <token>. POST /v1/sessions answers one.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'The media type is not supported',
    help: 'Send application/json.',
  },
  wrong_credentials: {
    status: 401,
    title: 'Email or password is wrong',
    help: 'Which of the two is wrong is not told, as it would tell who has an account.',
  },
};
