import { type Command, InvalidArgumentError } from 'commander';
import { openArchives } from '../app/archives.ts';
import { forEachReadModel, type ReadModelName } from '../app/read-models.ts';
import { type Config, readConfig } from '../config.ts';
import { codec } from '../domain/events.ts';
import { connectReader } from '../eventstore/connections.ts';
import { createKeys } from '../eventstore/partitions.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import { collectFindings, type Finding } from '../eventstore/verify/findings.ts';
import { verifyLedger } from '../eventstore/verify/ledger.ts';
import { verifyOverlap } from '../eventstore/verify/overlap.ts';
import type { Database } from '../projections/database.ts';
import { verifyProjection } from '../projections/verify/verify.ts';
import { UsageError } from './exit.ts';
import { readTime } from './output/time.ts';

type Options = { readonly since?: string; readonly sample?: number; readonly json?: boolean };

/** What was looked at, and what was found wrong with it. */
type Report = {
  readonly subject: string;
  readonly events: number;
  readonly rows?: number;
  readonly seconds: number;
  readonly wrong: number;
  /** The first hundred. */
  readonly findings: readonly Finding[];
};

/**
 * `millrace verify [projection]`: everything, the ledger and every read model, or one of them. Ends with exit code 1
 * if anything is not as it must be. Changes nothing, and may run beside a live system.
 */
export async function verify(subject: string | undefined, options: Options): Promise<void> {
  const { sample } = options;
  const since = options.since === undefined ? undefined : new Date(options.since);
  const names = namesOf(subject);
  const config = readConfig(process.env);
  const db = openDatabase<Database>({
    url: config.DATABASE_URL,
    max: 2,
    applicationName: 'millrace-verify',
    statementTimeoutMs: 0,
    idleInTransactionTimeoutMs: 600_000,
  });
  const archives = openArchives(config);
  const narrowed = {
    archives,
    ...(since ? { since } : {}),
    ...(sample === undefined ? {} : { sample }),
  };
  const readModels = forEachReadModel(
    (projection) => (findings: Findings) => verifyProjection(db, projection, codec, findings, narrowed),
  );
  try {
    const reports: Report[] = [];
    const say = (report: Report) => {
      reports.push(report);
      if (!options.json) printReport(report);
    };
    if (names.ledger && !since && sample === undefined) {
      say(await verified('ledger', (findings) => ledger(db, config, findings)));
      say(await verified('log', (findings) => log(db, config, findings)));
    }
    for (const name of names.projections) {
      say(await verified(name, (findings) => readModels[name](findings)));
    }
    if (options.json) console.log(JSON.stringify({ ok: reports.every(isRight), reports }));
    if (!reports.every(isRight)) process.exitCode = 1;
  } finally {
    await db.destroy();
  }
}

const isRight = ({ wrong }: Report) => wrong === 0;

type Findings = ReturnType<typeof collectFindings>;
type Looked = { readonly events: number; readonly rows?: number };

async function verified(subject: string, look: (findings: Findings) => Promise<Looked>): Promise<Report> {
  const begun = performance.now();
  const findings = collectFindings();
  const looked = await look(findings);
  const seconds = Math.round(performance.now() - begun) / 1000;
  return { subject, ...looked, seconds, wrong: findings.count(), findings: findings.first() };
}

type Db = ReturnType<typeof openDatabase<Database>>;

async function ledger(db: Db, config: Config, findings: Findings): Promise<Looked> {
  return { events: await verifyLedger(db, config.PARTITIONS, findings, openArchives(config)) };
}

/** What Redis holds, compared with the ledger. */
async function log(db: Db, config: Config, findings: Findings): Promise<Looked> {
  const connection = connectReader({ url: config.REDIS_URL, name: 'verify' });
  try {
    await connection.whenReady(5_000);
    let events = 0;
    for (const keys of createKeys(config.KEY_PREFIX, config.PARTITIONS)) {
      events += await verifyOverlap(connection.redis, db, keys, findings, openArchives(config));
    }
    return { events };
  } finally {
    connection.close();
  }
}

function printReport({ subject, events, rows, seconds, wrong, findings }: Report): void {
  const looked = rows === undefined ? `${events} events` : `${rows} rows of ${events} events`;
  const rate = seconds > 0 ? `, ${Math.round(events / seconds)} events/s` : '';
  console.log(
    `${subject.padEnd(16)} ${wrong === 0 ? 'right' : `WRONG: ${wrong}`}  (${looked}, ${seconds} s${rate})`,
  );
  for (const { kind, where, detail } of findings) console.log(`  ${kind}  ${where}: ${detail}`);
  if (wrong > findings.length) console.log(`  and ${wrong - findings.length} more`);
}

function namesOf(subject: string | undefined): { ledger: boolean; projections: readonly ReadModelName[] } {
  const all = Object.keys(forEachReadModel(() => undefined)) as ReadModelName[];
  if (subject === undefined) return { ledger: true, projections: all };
  if (subject === 'ledger') return { ledger: true, projections: [] };
  const name = all.find((each) => each === subject);
  if (!name)
    throw new UsageError(`There is no read model ${subject}: there are ${all.join(', ')}, and ledger.`);
  return { ledger: false, projections: [name] };
}

/** The options by which less than everything is looked at. */
export function narrowingOptions(command: Command): Command {
  return command
    .option('--since <time>', 'only rows that newer events concern: 24h, 7d, or RFC 3339', readTime)
    .option(
      '--sample <part>',
      'only about this part of the rows: 1% or 0.01; the same ones each time',
      readPart,
    );
}

function readPart(text: string): number {
  const part = text.endsWith('%') ? Number(text.slice(0, -1)) / 100 : Number(text);
  if (part > 0 && part <= 1) return part;
  throw new InvalidArgumentError('It is more than nothing and at most all: 1% or 0.01.');
}
