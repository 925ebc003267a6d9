import type { Kysely } from 'kysely';
import { createHmacs, type Hmac } from '../access/signing.ts';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import { enqueueJob, type JobAccepted, type JobCommandDeps } from '../commands/jobs/requests.ts';
import { laneOf } from '../commands/keys.ts';
import { recordOperation } from '../commands/operations.ts';
import type { Config } from '../config.ts';
import type { SettlingDeps } from '../consumers/dead-letters.ts';
import { publishHint } from '../consumers/hints.ts';
import { type Settling, type SettlingPayload, settlingJob } from '../domain/dead-letters.ts';
import type { Database } from '../projections/database.ts';
import {
  countToSettle,
  type LetterFilter,
  lanesOwners,
  lettersToSettle,
} from '../projections/dead-letters/queries.ts';
import type { Parts } from './base.ts';
import { commandBasics, hexHmac } from './write-side.ts';

/** Longer than a run takes to come again after it was cut off; the job's version guards each letter besides. */
const CLAIMS_KEPT_MS = 3_600_000;

/** What the jobs need that settle dead letters: the commands of whoever asked for them, in a worker. */
export function settlingDeps(config: Config, { db, store }: Pick<Parts, 'db' | 'store'>): SettlingDeps {
  const hint = (topic: 'timers' | 'cancels', text: string) =>
    publishHint(store.writer.redis, config.KEY_PREFIX, topic, text);
  const commands: JobCommandDeps = {
    ...commandBasics(store),
    store,
    hmac: hexHmac(createHmacs(config.HMAC_KEY)),
    idempotencyRetentionMs: CLAIMS_KEPT_MS,
    // They ask for no more than `memory`.
    awaitDurability: async () => true,
    hint: {
      timer: (partition, dueAt) => hint('timers', `${partition} ${dueAt}`),
      cancel: (jobId) => hint('cancels', jobId),
    },
  };
  return { db, commands };
}

/**
 * A filter by the hashes of a key instead of by the key: what people call their jobs by is sealed in letters, and stands in no
 * record of what was asked for. Each owner and queue has a hash of its own, so those that there are letters of are tried.
 */
export async function byLane<F extends LetterFilter>(
  db: Kysely<Database>,
  hmac: Hmac,
  { orderingKey, ...filter }: F,
): Promise<Omit<F, 'orderingKey'> & Pick<LetterFilter, 'lanes'>> {
  if (orderingKey === undefined) return filter;
  const keyed = await lanesOwners(db, filter);
  const lanes = keyed.map(({ owner, queue }) =>
    laneOf({ hmac: hexHmac(hmac) }, owner ?? undefined, queue, orderingKey),
  );
  return { ...filter, lanes };
}

/** Asks for a job that settles the dead letters that there are now. The context's reason is each letter's. */
export async function requestSettling(
  commands: JobCommandDeps,
  context: CommandContext & { readonly reason: string },
  settling: Settling,
  wanted: Pick<SettlingPayload, 'filter' | 'rate'>,
): Promise<CommandResult<JobAccepted>> {
  const { actor, correlation, reason } = context;
  const recorded = await recordOperation(commands, context, {
    operation: `dead-letters.${settling}`,
    target: 'dead-letters',
    parameters: wanted,
  });
  if (recorded.kind !== 'done') return recorded;
  const heads = await commands.store.heads();
  const payload = { ...wanted, heads, actor, correlation, reason, operation: recorded.body.id };
  return enqueueJob(commands, context, settlingJob(settling, payload));
}

/** Which dead letters a settling would go through: how many, and the first of them. */
export async function foreseeSettling(
  { db, store }: Pick<Parts, 'db' | 'store'>,
  filter: LetterFilter,
  sample: number,
): Promise<{ readonly count: number; readonly ids: readonly string[] }> {
  const heads = await store.heads();
  const [count, letters] = await Promise.all([
    countToSettle(db, filter, heads),
    lettersToSettle(db, filter, { heads, limit: sample }),
  ]);
  return { count, ids: letters.map(({ jobId }) => jobId) };
}
