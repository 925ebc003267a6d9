import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type Metric,
  type OpenMetricsContentType,
  Registry,
} from 'prom-client';
import { METRIC } from './names.ts';

/** 0.2 ms … 1 s: a commit is one round trip to Redis. */
const COMMIT_SECONDS = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
/** 1 ms … 30 s: a query may wait for its own writes as long as that. */
const HTTP_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** 5 ms … 10 min: from a mail to an export. */
const JOB_SECONDS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600];
/** 1 ms … 60 s: milliseconds when all is well, seconds behind a rebuild. */
const WAIT_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60];

/**
 * The metrics of this process: one set each, handed to who records them. Nothing is global, so several may live
 * side by side in a test.
 *
 * A gauge with labels keeps its last value: whoever gives up a (group, partition) must `remove` its labels, or
 * two processes report the lag of one partition.
 */
export type Metrics = ReturnType<typeof createMetrics>;

/**
 * @param options.node Node's own metrics (heap, event loop, GC) too; default true. Off in tests and benches that
 *   make many: each set keeps a GC observer and a delay monitor alive for good.
 */
export function createMetrics(options: { readonly node?: boolean } = {}) {
  // Exemplars are recorded only where the registry says OpenMetrics. It is never rendered itself: prom-client 15
  // would take `_total` off the *names of the counters* in doing so, and each plain scrape after it would lack it.
  const registry = openMetricsRegistry();
  const registers = [registry];
  if (options.node !== false) collectDefaultMetrics({ register: registry });
  return {
    /** Finished HTTP requests by method, route pattern and status. */
    httpRequests: new Counter({
      name: METRIC.httpRequests,
      help: 'HTTP requests that were answered or aborted',
      labelNames: ['method', 'route', 'status'],
      registers,
    }),
    /** Seconds from the request's head to the end of its answer. Carries trace ids as exemplars, hence observe({labels, value, exemplarLabels}). */
    httpRequestDuration: new Histogram({
      name: METRIC.httpRequestDuration,
      help: 'Seconds from the head of an HTTP request to the end of its answer',
      labelNames: ['method', 'route', 'status'],
      buckets: HTTP_SECONDS,
      enableExemplars: true,
      registers,
    }),
    /** HTTP requests that are being answered now. */
    activeRequests: new Gauge({
      name: METRIC.activeRequests,
      help: 'HTTP requests being answered',
      registers,
    }),
    /** Commits by outcome: `committed`, `replayed`, `conflict`, `refused`, `fenced`, `unknown`, … */
    commits: new Counter({
      name: METRIC.commits,
      help: 'Commits by outcome',
      labelNames: ['outcome'],
      registers,
    }),
    /** Seconds from asking for a commit to its reply. */
    commitDuration: new Histogram({
      name: METRIC.commitDuration,
      help: 'Seconds from asking for a commit to its reply',
      buckets: COMMIT_SECONDS,
      registers,
    }),
    /** Events in the log that the group has not passed yet; set by the owner of (group, partition). */
    groupLagEvents: new Gauge({
      name: METRIC.groupLagEvents,
      help: 'Events that a consumer group has not passed yet',
      labelNames: ['group', 'partition'],
      registers,
    }),
    /** Age in seconds of the oldest event that the group has not passed; 0 when it is at the tail. */
    groupLagSeconds: new Gauge({
      name: METRIC.groupLagSeconds,
      help: 'Age of the oldest event that a consumer group has not passed yet',
      labelNames: ['group', 'partition'],
      registers,
    }),
    /** 1 while an operator has paused the group, else 0; each process that runs it says so. */
    groupPaused: new Gauge({
      name: METRIC.groupPaused,
      help: 'Whether a consumer group is paused by an operator',
      labelNames: ['group'],
      registers,
    }),
    /** Seconds from an event's commit to its being visible in the projection: observe the oldest of a batch. */
    projectionFreshness: new Histogram({
      name: METRIC.projectionFreshness,
      help: 'Seconds from the commit of an event to its being visible in the projection',
      labelNames: ['projection'],
      buckets: WAIT_SECONDS,
      registers,
    }),
    /** Looks into the read cache: `hit`, `miss`, `older` than what was wanted (or somebody else's), Redis `away`. */
    readCache: new Counter({
      name: METRIC.readCache,
      help: 'Looks into the read cache by what they found',
      labelNames: ['projection', 'outcome'],
      registers,
    }),
    /** Events that were left out of a read model: they can't be decoded (`decode`), the reducer threw (`reducer`), Postgres refuses the row (`row`), or an earlier one of the row is parked (`behind`). */
    projectionParked: new Counter({
      name: METRIC.projectionParked,
      help: 'Events that a projection parked, by why',
      labelNames: ['projection', 'because'],
      registers,
    }),
    /** Queries of read models by where their answers came from: `primary`, `replica`, `cache`. */
    reads: new Counter({
      name: METRIC.reads,
      help: 'Queries of read models by where their answers came from',
      labelNames: ['projection', 'from'],
      registers,
    }),
    /** Queries that a replica was asked in vain: it was `behind` what they wanted, `failed`, or was `slow`. */
    replicaMisses: new Counter({
      name: METRIC.replicaMisses,
      help: 'Queries that a replica did not answer, so that another server was asked',
      labelNames: ['replica', 'because'],
      registers,
    }),
    /** By how much a replica may be behind the primary, as of the last scrape; absent while that is not known. */
    replicaLag: new Gauge({
      name: METRIC.replicaLag,
      help: 'Seconds that a replica of Postgres may be behind the primary',
      labelNames: ['replica'],
      registers,
    }),
    /**
     * Runs of jobs by type and outcome: `succeeded`, `failed`, `retried`, `snoozed`, `cancelled`, `interrupted`; besides,
     * `recovered` at the start of one whose worker was lost, and `took_down` for each process of its own that it ended.
     */
    jobs: new Counter({
      name: METRIC.jobs,
      help: 'Attempts of jobs by outcome',
      labelNames: ['type', 'outcome'],
      registers,
    }),
    /** Seconds that one attempt of a job ran. */
    jobDuration: new Histogram({
      name: METRIC.jobDuration,
      help: 'Seconds that one attempt of a job ran',
      labelNames: ['type'],
      buckets: JOB_SECONDS,
      registers,
    }),
    /** Seconds from a job's being due to its start. */
    jobWait: new Histogram({
      name: METRIC.jobWait,
      help: 'Seconds from the time a job was due to its start',
      labelNames: ['type'],
      buckets: WAIT_SECONDS,
      registers,
    }),
    /** Jobs that this process has taken although its code doesn't know their type; they wait for code that does. */
    jobsOfUnknownType: new Gauge({
      name: METRIC.jobsOfUnknownType,
      help: 'Jobs that wait for code that knows their type',
      labelNames: ['type'],
      registers,
    }),
    /** Handlers that did not end when they were told to, and still run in this process: their jobs go on without them. */
    jobHandlersLingering: new Gauge({
      name: METRIC.jobHandlersLingering,
      help: 'Handlers that were given up and still run in this process',
      labelNames: ['type'],
      registers,
    }),
    /** Seconds from a timer's being due, by Redis' clock, to its becoming work: retries, jobs with a time to come. */
    timerLag: new Histogram({
      name: METRIC.timerLag,
      help: 'Seconds from the time that a timer was due to its becoming work',
      buckets: WAIT_SECONDS,
      registers,
    }),
    /** Seconds from a schedule's tick to the commit that enqueued its run. */
    scheduleDelay: new Histogram({
      name: METRIC.scheduleDelay,
      help: 'Seconds from the tick of a schedule to its run being enqueued',
      buckets: WAIT_SECONDS,
      registers,
    }),
    /** Ticks that were due and got no run of their own. */
    scheduleMissed: new Counter({
      name: METRIC.scheduleMissed,
      help: 'Ticks of schedules that were missed and have no run of their own',
      registers,
    }),
    /** Ticks that could not be dealt with for another reason than that a store is away; tried again each minute. */
    scheduleFailures: new Counter({
      name: METRIC.scheduleFailures,
      help: 'Ticks of schedules that failed and are tried again a minute later',
      registers,
    }),
    /** Leases by group and event: `acquired`, `released`, `lost`, `expired`. */
    leaseChanges: new Counter({
      name: METRIC.leaseChanges,
      help: 'Leases of consumer groups acquired, released and lost',
      labelNames: ['group', 'event'],
      registers,
    }),
    /** Batches that were not applied and are tried again: `transient` passes by itself, `other` may be a mistake. */
    groupRetries: new Counter({
      name: METRIC.groupRetries,
      help: 'Batches that were not applied and are tried again, by why: transient, or other',
      labelNames: ['group', 'because'],
      registers,
    }),
    /** A group gave a partition up for a while: `unknown_event` (for newer code), `fork` or `gap` (an alarm). */
    groupStops: new Counter({
      name: METRIC.groupStops,
      help: 'Times that a consumer group gave a partition up for a while',
      labelNames: ['group', 'partition', 'reason'],
      registers,
    }),
    /** Live streams that this process has open. */
    openStreams: new Gauge({
      name: METRIC.openStreams,
      help: 'Live streams (server-sent events) that are open',
      registers,
    }),
    /** Live streams ended by us, as their clients did not read what was sent. */
    droppedStreams: new Counter({
      name: METRIC.droppedStreams,
      help: 'Live streams ended because their clients did not read',
      registers,
    }),
    /**
     * The exposition that a scraper's `Accept` asks for: OpenMetrics 1.0 with exemplars where it names
     * `application/openmetrics-text`, else Prometheus' text format.
     */
    render: (accept: string | undefined) => render(registry, accept),
  };
}

async function render(registry: Registry<OpenMetricsContentType>, accept: string | undefined) {
  const openMetrics = accept?.includes('application/openmetrics-text') === true;
  const view = openMetrics ? openMetricsView(registry) : plainView(registry);
  return { contentType: view.contentType, body: await view.metrics() };
}

function plainView(registry: Registry<OpenMetricsContentType>): Registry {
  const view = new Registry();
  for (const metric of metricsOf(registry)) view.registerMetric(metric);
  return view;
}

function openMetricsView(registry: Registry<OpenMetricsContentType>): Registry<OpenMetricsContentType> {
  const view = openMetricsRegistry();
  for (const metric of metricsOf(registry)) {
    view.registerMetric(metric instanceof Counter ? withoutTotal(metric) : metric);
  }
  return view;
}

function openMetricsRegistry(): Registry<OpenMetricsContentType> {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  return registry;
}

function metricsOf(registry: Registry<OpenMetricsContentType>): Metric[] {
  return registry.getMetricsAsArray().flatMap(({ name }) => registry.getSingleMetric(name) ?? []);
}

/** The same counter under its family's name, which is what OpenMetrics puts into HELP and TYPE. */
function withoutTotal(counter: Counter): Counter {
  const name: string = Reflect.get(counter, 'name');
  return Object.create(counter, { name: { value: name.replace(/_total$/, ''), writable: true } });
}
