import { findJob, type JobView } from '../../projections/jobs/queries.ts';
import { ledgerHistory } from '../history.ts';
import { withReadModels } from '../installation.ts';
import { jobIdOf, noSuchJob } from '../job-id.ts';
import { errorText } from '../output/errors.ts';
import { type Column, createTable, drawFacts, type Fact, style } from '../output/table.ts';
import { shortTime } from '../output/time.ts';
import { detailOf, eventOf, type ShownEvent } from '../watching/events.ts';
import { statusColour, statusText } from '../watching/status.ts';

const columns: readonly Column<ShownEvent>[] = [
  { title: '', of: ({ version }) => String(version), right: true },
  { title: 'TIME (UTC)', of: ({ time }) => shortTime(time) },
  { title: 'EVENT', of: ({ type }) => type },
  { title: 'ACTOR', of: ({ actor }) => actor },
  { title: 'DETAIL', of: detailOf, cut: true },
];

/** `millrace jobs show` */
export function showJob(text: string, options: { readonly json?: boolean }): Promise<void> {
  const id = jobIdOf(text);
  return withReadModels(async (db, _hmac, config, opened) => {
    const found = await findJob(db, id);
    if (!found) throw noSuchJob(id);
    const { owner, ...rest } = found;
    const job = await opened(owner, rest);
    const events: ShownEvent[] = [];
    for await (const event of ledgerHistory(db, config, id)) events.push(await opened(owner, eventOf(event)));
    if (options.json) {
      console.log(JSON.stringify({ ...job, events }));
      return;
    }
    process.stdout.write(`${style(process.stdout, 'bold', id)}\n`);
    drawFacts(factsOf(job), process.stdout);
    process.stdout.write('\n');
    createTable(columns, process.stdout).draw(events);
  });
}

function factsOf(job: JobView): Fact[] {
  const { error, result } = job;
  return [
    ['type', job.type],
    ['queue', `${job.queue}, priority ${job.priority}`],
    ['status', statusText(job), statusColour(job)],
    ['progress', `${Math.round(job.progress)} %`],
    ['attempts', String(job.attempts)],
    ['ordering key', job.orderingKey],
    ['concurrency key', job.concurrencyKey],
    ['callback', job.callbackUrl],
    ['created', job.createdAt],
    ['due', job.dueAt],
    ['started', job.startedAt],
    ['finished', job.finishedAt],
    ['worker', job.worker],
    ['trace', job.traceId],
    ['result', result === undefined ? undefined : JSON.stringify(result, null, 2)],
    ['given up for', job.reason],
    ['error', error === undefined ? undefined : stackOf(error)],
  ];
}

function stackOf(error: unknown): string {
  const stack = typeof error === 'object' && error !== null && 'stack' in error ? error.stack : undefined;
  return typeof stack === 'string' ? stack : errorText(error);
}
