import type { Command } from 'commander';
import type { Kysely } from 'kysely';
import type { Db } from '../../app/base.ts';
import { type Config, readConfig } from '../../config.ts';
import { type Connection, connectReader } from '../../eventstore/connections.ts';
import { openDatabase } from '../../eventstore/postgres.ts';
import { examples } from '../examples.ts';
import { printable, style } from '../output/table.ts';
import { judgeClock, readPostgresClock, readRedisClock } from './clocks.ts';
import { type Finding, fail, messageOf, type Verdict } from './finding.ts';
import { examineInstallation } from './installation.ts';
import { examinePostgres } from './postgres.ts';
import { examineRedis } from './redis.ts';
import { examineReplicas } from './replicas.ts';
import { examineSettings } from './settings.ts';

const WITHIN_MS = 5_000;

export type Area = { readonly area: string; readonly findings: readonly Finding[] };

/** Adds `millrace doctor`. */
export function doctorCommand(command: Command): void {
  examples(command, [
    ['millrace doctor', ''],
    ['millrace doctor --json | jq \'.findings[] | select(.verdict != "ok")\'', 'what is not as it should be'],
  ])
    .description(
      'Examine the settings, Redis, Postgres, the clocks and the installation, and say how to mend what is not as it should be. Changes nothing. Ends with 1 if anything fails.',
    )
    .option('--json', 'print JSON: {ok, findings}')
    .action(doctor);
}

async function doctor({ json }: { readonly json?: boolean }): Promise<void> {
  const config = readConfig(process.env);
  const areas = await examine(config);
  const isOk = areas.every(({ findings }) => findings.every(({ verdict }) => verdict !== 'fail'));
  if (json) {
    const findings = areas.flatMap(({ area, findings }) => findings.map((each) => ({ area, ...each })));
    console.log(JSON.stringify({ ok: isOk, findings }));
  } else for (const area of areas) print(area);
  if (!isOk) process.exitCode = 1;
}

async function examine(config: Config): Promise<readonly Area[]> {
  const db: Db = openDatabase({ url: config.DATABASE_URL, max: 4, applicationName: 'millrace-doctor' });
  const connection = connectReader({ url: config.REDIS_URL, name: 'doctor' });
  try {
    const redisProblem = await connection.whenReady(WITHIN_MS).then(() => undefined, messageOf);
    const there = redisProblem === undefined ? connection : undefined;
    // Of its own tables it knows nothing yet.
    const plain: Kysely<never> = db.withTables<never>();
    const postgres = await examinePostgres(plain, config).catch((error: unknown) => [
      fail(
        'connection',
        messageOf(error),
        'start Postgres, or set DATABASE_URL right: docs/runbooks/postgres-down.md',
      ),
    ]);
    const isPostgresThere = postgres.some(({ name }) => name !== 'connection');
    return [
      { area: 'settings', findings: await examineSettings(config) },
      { area: 'redis', findings: await examineRedisOr(there, redisProblem, config) },
      { area: 'postgres', findings: postgres },
      { area: 'replicas', findings: await examineReplicas(config) },
      { area: 'clocks', findings: await clocks(there, isPostgresThere ? plain : undefined) },
      { area: 'installation', findings: isPostgresThere ? await installation(db, there, config) : [] },
    ];
  } finally {
    connection.close();
    await db.destroy();
  }
}

async function examineRedisOr(
  connection: Connection | undefined,
  problem: string | undefined,
  config: Config,
): Promise<readonly Finding[]> {
  const mend = 'start Redis, or set REDIS_URL right';
  if (!connection) return [fail('connection', problem ?? 'away', mend)];
  return examineRedis(connection.redis, config).catch((error: unknown) => [
    fail('connection', messageOf(error), mend),
  ]);
}

async function clocks(
  connection: Connection | undefined,
  db: Kysely<never> | undefined,
): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  if (connection) found.push(judgeClock('redis', await readRedisClock(connection)));
  if (db) found.push(judgeClock('postgres', await readPostgresClock(db)));
  return found;
}

async function installation(
  db: Db,
  connection: Connection | undefined,
  config: Config,
): Promise<readonly Finding[]> {
  return examineInstallation(db, connection, config).catch((error: unknown) => [
    fail('installation', messageOf(error), 'look at the other findings first'),
  ]);
}

const COLOURS = { ok: 'green', warn: 'yellow', fail: 'red', unknown: 'cyan' } as const satisfies Record<
  Verdict,
  string
>;

function print({ area, findings }: Area): void {
  const out = process.stdout;
  if (findings.length === 0) return;
  out.write(`${style(out, 'bold', area)}\n`);
  for (const { name, verdict, detail, mend } of findings) {
    out.write(
      `  ${style(out, COLOURS[verdict], verdict.padEnd(7))}  ${name.padEnd(18)}  ${printable(detail)}\n`,
    );
    if (mend) out.write(`${' '.repeat(31)}→ ${printable(mend)}\n`);
  }
}
