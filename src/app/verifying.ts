import type { Kysely } from 'kysely';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import { enqueueJob, type JobAccepted, type JobCommandDeps } from '../commands/jobs/requests.ts';
import type { Config } from '../config.ts';
import type { VerificationDeps } from '../consumers/verifications.ts';
import { refuse } from '../domain/decision.ts';
import { codec } from '../domain/events.ts';
import { type VerificationPayload, verificationJob } from '../domain/verifications.ts';
import { ledgerHeads } from '../eventstore/checkpoints.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import { collectFindings } from '../eventstore/verify/findings.ts';
import { projections } from '../features.ts';
import type { Database } from '../projections/database.ts';
import { type VerifyOptions, verifyProjection } from '../projections/verify/verify.ts';
import { openArchives } from './archives.ts';
import { forEachReadModel, type ReadModelName } from './read-models.ts';

/** So many findings are in a job's result. */
const SHOWN = 50;

/** What the verifying jobs of a worker need: each run has a connection of its own, as it holds a snapshot for long. */
export function verificationDeps(config: Config): VerificationDeps {
  return {
    async verify({ projection, since, sample }, onRead) {
      const name = named(projection);
      if (!name) return undefined;
      const db = openDatabase<Database>({
        ...{ url: config.DATABASE_URL, max: 2, applicationName: 'millrace-verify' },
        ...{ statementTimeoutMs: 0, idleInTransactionTimeoutMs: 600_000 },
      });
      const options: VerifyOptions = {
        ...{ archives: openArchives(config), onRead },
        ...(since === undefined ? {} : { since: new Date(since) }),
        ...(sample === undefined ? {} : { sample }),
      };
      const findings = collectFindings(SHOWN);
      const looks = forEachReadModel((each) => () => verifyProjection(db, each, codec, findings, options));
      try {
        const { rows, events } = await looks[name]();
        return { rows, events: Math.round(events), wrong: findings.count(), findings: [...findings.first()] };
      } finally {
        await db.destroy();
      }
    },
  };
}

/** Asks for a job that verifies a read model. Refused with `not_found`. */
export async function requestVerification(
  commands: JobCommandDeps,
  context: CommandContext,
  wanted: VerificationPayload,
): Promise<CommandResult<JobAccepted>> {
  if (!named(wanted.projection)) return { kind: 'refused', refusal: noSuch(wanted.projection).refusal };
  return enqueueJob(commands, context, verificationJob(wanted));
}

/** How many events a verification would read, about. Refused with `not_found`. */
export async function foreseeVerification(
  db: Kysely<Database>,
  name: string,
): Promise<{ readonly ok: true; readonly events: number } | ReturnType<typeof refuse>> {
  if (!named(name)) return noSuch(name);
  return { ok: true, events: [...(await ledgerHeads(db)).values()].reduce((sum, seq) => sum + seq, 0) };
}

function noSuch(name: string) {
  const names = Object.keys(projections).join(', ');
  return refuse('not_found', `There is no read model ${name}; there are ${names}.`);
}

function named(name: string): ReadModelName | undefined {
  return (Object.keys(projections) as ReadModelName[]).find((each) => each === name);
}
