import { Command, InvalidArgumentError } from 'commander';
import { openArchives } from '../app/archives.ts';
import { parsePosition } from '../domain/position.ts';
import type { Archive } from '../eventstore/archive/archives.ts';
import { archivesIn } from '../eventstore/archive/list.ts';
import { type ArchiveBounds, type ArchiveRange, planArchive } from '../eventstore/archive/plan.ts';
import { ArchiveRefusedError } from '../eventstore/archive/register.ts';
import { archiveLedger } from '../eventstore/archive/write.ts';
import { type ChangeOptions, changeOptions, checked, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { withInstallation, withPostgres } from './installation.ts';
import { operate } from './operate.ts';
import { type Column, createTable } from './output/table.ts';
import { readTime, shortTime } from './output/time.ts';
import { checkPartitions } from './partitions.ts';

const KEEP_EVENTS = 10_000;

type ArchiveCommand = ChangeOptions & {
  readonly before: Pick<ArchiveBounds, 'before' | 'below'>;
  readonly keep: number;
};

/** `millrace ledger …` */
export function ledgerCommand(): Command {
  const ledger = new Command('ledger').description('The permanent record.');
  examples(ledger.command('ls'), [['millrace ledger ls', '']])
    .description('List the files that hold old parts of the ledger.')
    .option('--json', 'print JSON: {items}')
    .action(list);
  changeOptions(
    examples(ledger.command('archive'), [
      ['millrace ledger archive --before 90d --dry-run', 'how much that would be'],
      ['millrace ledger archive --before 90d --reason "the yearly tidying" --yes', ''],
    ])
      .description(
        "Move old events from Postgres to files in the blob store. They are read from there as before, by all that read the ledger; the files are part of it from then on, and of its backup. Cut off, it is safe, and goes on when it is called again. Free disk space returns to Postgres' tables, not to the operating system.",
      )
      .requiredOption(
        '--before <when>',
        'what the ledger took before: 30d, RFC 3339; or a position: its partition up to there',
        readBound,
      )
      .option(
        '--keep <events>',
        'of each partition so many stay, whatever their age',
        readCount,
        KEEP_EVENTS,
      ),
  ).action(archive);
  return ledger;
}

async function archive(options: ArchiveCommand): Promise<void> {
  const bounds: ArchiveBounds = { ...options.before, keepEvents: options.keep };
  checked('Move events to files?', options);
  await withInstallation(async (side, { config }) => {
    if (bounds.below) checkPartitions([bounds.below], config.PARTITIONS);
    const { db } = side;
    const plan = await planArchive(db, bounds);
    const events = plan.reduce((sum, { firstSeq, lastSeq }) => sum + lastSeq - firstSeq + 1, 0);
    if (options.dryRun) return sayPlan(plan, events, options);
    const { actor, reason } = await operate(side, config, options, {
      question: `Move ${events} events to files?`,
      operation: 'ledger.archive',
      target: 'ledger',
      parameters: { ...asAsked(bounds), events },
    });
    const onFile = (file: Archive) => {
      if (!options.json) console.log(`${file.file}  ${file.events} events, ${file.bytes} bytes`);
    };
    const { files } = openArchives(config);
    const done = await archiveLedger(db, files, { ...bounds, by: actor, reason, onFile }).catch(refused);
    if (options.json) console.log(JSON.stringify({ items: done.map(viewOf) }));
    else if (done.length === 0) console.log('There is nothing that old.');
  });
}

const asAsked = ({ before, below, keepEvents }: ArchiveBounds) => ({
  ...(before === undefined ? {} : { before: before.toISOString() }),
  ...(below === undefined ? {} : { below }),
  keep: keepEvents,
});

function readBound(text: string): Pick<ArchiveBounds, 'before' | 'below'> {
  const below = parsePosition(text);
  return below ? { below } : { before: new Date(readTime(text)) };
}

function readCount(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give a number of events.');
}

function sayPlan(plan: readonly ArchiveRange[], events: number, { json }: ChangeOptions): void {
  if (json) console.log(JSON.stringify({ events, partitions: plan }));
  else {
    for (const { partition, firstSeq, lastSeq } of plan) {
      console.log(`partition ${partition}: events ${firstSeq} to ${lastSeq}`);
    }
    console.log(`${events} events would be moved.`);
  }
}

function refused(error: unknown): never {
  if (error instanceof ArchiveRefusedError) throw new RefusedError('archive_refused', error.message);
  throw error;
}

const viewOf = ({ partition, first_seq, last_seq, ...rest }: Archive) => ({
  file: rest.file,
  partition,
  firstSeq: first_seq,
  lastSeq: last_seq,
  events: rest.events,
  from: rest.first_at.toISOString(),
  to: rest.last_at.toISOString(),
  bytes: rest.bytes,
  sha256: rest.sha256,
  archivedAt: rest.archived_at.toISOString(),
  archivedBy: rest.archived_by,
  reason: rest.archived_for,
  /** False: it was cut off, and the next `archive` goes on there. */
  finished: rest.emptied_at !== null,
});

type View = ReturnType<typeof viewOf>;

const columns: readonly Column<View>[] = [
  { title: 'FILE', of: ({ file }) => file },
  { title: 'EVENTS', of: ({ events }) => String(events), right: true },
  { title: 'BYTES', of: ({ bytes }) => String(bytes), right: true },
  { title: 'FROM (UTC)', of: ({ from }) => shortTime(from) },
  { title: 'TO (UTC)', of: ({ to }) => shortTime(to) },
  { title: 'ARCHIVED (UTC)', of: ({ archivedAt }) => shortTime(archivedAt) },
  { title: 'BY', of: ({ archivedBy }) => archivedBy },
  { title: 'REASON', of: ({ reason, finished }) => (finished ? reason : `UNFINISHED: ${reason}`), cut: true },
];

async function list({ json }: { readonly json?: boolean }): Promise<void> {
  const items = (await withPostgres((db) => archivesIn(db))).map(viewOf);
  if (json) console.log(JSON.stringify({ items }));
  else createTable(columns, process.stdout).draw(items);
}
