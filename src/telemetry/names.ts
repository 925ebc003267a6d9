/**
 * Every name that telemetry stores outside this process: metrics, spans, attribute keys.
 *
 * These are identifiers for life. Dashboards, alerts, recording rules and saved trace queries hold them, so a
 * name that has been released is never renamed and never given another meaning, unit or label set: add a new
 * one beside it. Units are base units (seconds, bytes) and stand in the name.
 */
export const METRIC = {
  httpRequests: 'http_requests_total',
  httpRequestDuration: 'http_request_duration_seconds',
  activeRequests: 'active_requests',
  commits: 'millrace_commits_total',
  commitDuration: 'millrace_commit_duration_seconds',
  groupLagEvents: 'millrace_group_lag_events',
  groupLagSeconds: 'millrace_group_lag_seconds',
  groupPaused: 'millrace_group_paused',
  projectionFreshness: 'millrace_projection_freshness_seconds',
  projectionParked: 'millrace_projection_parked_total',
  reads: 'millrace_reads_total',
  readCache: 'millrace_read_cache_total',
  replicaMisses: 'millrace_replica_misses_total',
  replicaLag: 'millrace_replica_lag_seconds',
  jobs: 'millrace_jobs_total',
  jobDuration: 'millrace_job_duration_seconds',
  jobWait: 'millrace_job_wait_seconds',
  jobsOfUnknownType: 'millrace_jobs_of_unknown_type',
  jobHandlersLingering: 'millrace_job_handlers_lingering',
  timerLag: 'millrace_timer_lag_seconds',
  scheduleDelay: 'millrace_schedule_delay_seconds',
  scheduleMissed: 'millrace_schedule_missed_ticks_total',
  scheduleFailures: 'millrace_schedule_failures_total',
  leaseChanges: 'millrace_lease_changes_total',
  groupStops: 'millrace_group_stops_total',
  groupRetries: 'millrace_group_retries_total',
  openStreams: 'millrace_streams_open',
  droppedStreams: 'millrace_streams_dropped_total',
} as const;

/** The instrumentation scope of every span of ours. */
export const TRACER = 'millrace';

/**
 * Names of spans, low in cardinality: what varies goes into attributes. An HTTP request's span is named
 * `METHOD route` and needs no entry. `send`, `receive` and `process` are the operation names of
 * OpenTelemetry's messaging conventions.
 */
export const SPAN = {
  commit: 'commit',
  process: 'process',
  ledgerAppend: 'ledger append',
  jobAttempt: 'job attempt',
} as const;

/** Attribute keys. The upper ones are OpenTelemetry's semantic conventions (1.44), the lower ones are ours. */
export const ATTR = {
  httpMethod: 'http.request.method',
  httpRoute: 'http.route',
  httpStatus: 'http.response.status_code',
  urlPath: 'url.path',
  urlScheme: 'url.scheme',
  errorType: 'error.type',
  messagingSystem: 'messaging.system',
  messagingDestination: 'messaging.destination.name',
  messagingPartition: 'messaging.destination.partition.id',
  messagingGroup: 'messaging.consumer.group.name',
  messagingMessageId: 'messaging.message.id',
  messagingOperation: 'messaging.operation.type',
  messagingBatchCount: 'messaging.batch.message_count',

  role: 'millrace.role',
  partition: 'millrace.partition',
  position: 'millrace.position',
  streamId: 'millrace.stream.id',
  eventType: 'millrace.event.type',
  group: 'millrace.group',
  projection: 'millrace.projection',
  jobId: 'millrace.job.id',
  jobType: 'millrace.job.type',
  jobAttempt: 'millrace.job.attempt',
  outcome: 'millrace.outcome',
} as const;

/** The `route` label and span name of a request that matches no route: one value, whatever is asked for. */
export const UNMATCHED_ROUTE = 'unmatched';

/** The `status` of a request whose client left before the answer was complete (nginx's convention). */
export const STATUS_CLIENT_CLOSED = 499;
