import { readCursor, writeCursor } from '../../http/cursors.ts';
import { type JobView, listJobs } from '../../projections/jobs/queries.ts';
import type { Before } from '../../projections/listing.ts';
import type { JobStatus } from '../../projections/run.ts';
import { withReadModels } from '../installation.ts';
import { errorText } from '../output/errors.ts';
import { type ListOptions, printList } from '../output/pages.ts';
import type { Column } from '../output/table.ts';
import { checkTimes, shortTime } from '../output/time.ts';
import { statusColour, statusText } from '../watching/status.ts';

const columns: readonly Column<JobView>[] = [
  { title: 'ID', of: ({ id }) => id },
  { title: 'TYPE', of: ({ type }) => type, cut: true },
  { title: 'QUEUE', of: ({ queue }) => queue },
  { title: 'STATUS', of: statusText, colour: statusColour },
  { title: 'DONE', of: ({ progress }) => `${Math.round(progress)} %`, right: true },
  { title: 'ATTEMPTS', of: ({ attempts }) => String(attempts), right: true },
  { title: 'CREATED (UTC)', of: ({ createdAt }) => shortTime(createdAt) },
  { title: 'ERROR', of: ({ error }) => errorText(error), cut: true },
];

type Options = ListOptions & {
  readonly status?: JobStatus;
  readonly type?: string;
  readonly queue?: string;
  readonly owner?: string;
  readonly from?: string;
  readonly to?: string;
};

/** `millrace jobs ls` */
export async function listJobsCommand(options: Options): Promise<void> {
  checkTimes(options);
  const { status, type, queue, owner, from, to } = options;
  await withReadModels((db, hmac, _config, opened) =>
    printList<JobView, Before>({
      options,
      columns,
      read: async (page) => {
        const jobs = await listJobs(db, { status, type, queue, owner, from, to, ...page });
        // As the API lists them: whose they are is for who opens them.
        return Promise.all(jobs.map(({ owner: whose, ...job }) => opened(whose, job)));
      },
      after: ({ createdAt, id }) => ({ createdAt, id }),
      readCursor: (text) => readCursor(hmac, 'jobs', text),
      writeCursor: (after) => writeCursor(hmac, 'jobs', after),
    }),
  );
}
