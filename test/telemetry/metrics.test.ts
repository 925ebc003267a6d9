import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { METRIC } from '../../src/telemetry/names.ts';

const OPEN_METRICS = 'application/openmetrics-text; version=1.0.0, text/plain; q=0.5';

describe('the metrics of a process', () => {
  it('hold every name that is promised, and Node’s own', async () => {
    const { body } = await createMetrics().render(undefined);
    for (const name of Object.values(METRIC)) expect(body).toContain(`# TYPE ${name} `);
    expect(body).toContain('nodejs_eventloop_lag_seconds');
    expect(body).toContain('process_cpu_seconds_total');
  });

  it('are counted by their labels', async () => {
    const metrics = createMetrics({ node: false });
    metrics.commits.inc({ outcome: 'conflict' }, 2);
    metrics.groupLagEvents.set({ group: 'ledger', partition: 3 }, 41);
    metrics.jobDuration.observe({ type: 'export' }, 90);
    const { body } = await metrics.render('*/*');
    expect(body).toContain('millrace_commits_total{outcome="conflict"} 2');
    expect(body).toContain('millrace_group_lag_events{group="ledger",partition="3"} 41');
    expect(body).toContain('millrace_job_duration_seconds_bucket{le="120",type="export"} 1');
  });

  it('keep their names whichever format was asked for before, also at the same time', async () => {
    const metrics = createMetrics({ node: false });
    metrics.commits.inc({ outcome: 'committed' });
    const [open, plain] = await Promise.all([metrics.render(OPEN_METRICS), metrics.render(undefined)]);
    expect(open.contentType).toContain('application/openmetrics-text');
    expect(open.body).toContain('# TYPE millrace_commits counter');
    expect(open.body).toContain('millrace_commits_total{outcome="committed"} 1');
    expect(open.body.endsWith('# EOF\n')).toBe(true);
    expect(plain.contentType).toContain('text/plain');
    expect(plain.body).toContain('# TYPE millrace_commits_total counter');
    expect((await metrics.render(undefined)).body).toBe(plain.body);
    expect((await metrics.render(OPEN_METRICS)).body).toBe(open.body);
  });

  it('of two sets are apart', async () => {
    const one = createMetrics({ node: false });
    const other = createMetrics({ node: false });
    one.activeRequests.inc();
    expect((await other.activeRequests.get()).values[0]?.value).toBe(0);
  });
});
