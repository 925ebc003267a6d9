import { createHash, randomBytes } from 'node:crypto';
import { createHmacs, type Hmac } from '../access/signing.ts';
import type { CommandDeps } from '../commands/handle.ts';
import type { JobCommandDeps } from '../commands/jobs/requests.ts';
import type { QueueCommandDeps } from '../commands/queues.ts';
import type { ScheduleCommandDeps } from '../commands/schedules.ts';
import type { SessionDeps } from '../commands/sessions.ts';
import { publishHint } from '../consumers/hints.ts';
import { connectSubscriber, connectWriter } from '../eventstore/connections.ts';
import { createDurability } from '../eventstore/durability.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import { createCheckpointWaits } from '../eventstore/waits.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { currentTraceparent, SpanKind, withSpan } from '../telemetry/tracing.ts';
import { type Base, openParts } from './base.ts';
import { peopleOf } from './people.ts';
import { randomText } from './random.ts';
import { openSealing } from './sealing.ts';

/** A session that nobody refreshes ends after thirty days. */
export const SESSION_LIFETIME_MS = 30 * 24 * 3_600_000;

/** What is needed to send commands, over HTTP or from the command line. */
export async function openWriteSide(base: Base, name: string, patience?: Parameters<typeof openParts>[2]) {
  const { config } = base;
  const parts = await openParts(base, name, patience);
  const hmac = createHmacs(config.HMAC_KEY);
  const people = peopleOf(config, parts.db);
  const { sealJob, opened } = openSealing(config, parts.db, parts.store);
  const subscriber = connectSubscriber({ url: config.REDIS_URL, name: `${name}-checkpoints` });
  const waits = createCheckpointWaits({ subscriber, db: parts.db, prefix: config.KEY_PREFIX });
  const waiter = connectWriter({
    url: config.REDIS_URL,
    name: `${name}-wait`,
    replyWithinMs: config.DURABILITY_TIMEOUT_MS + 1_000,
  });
  const { awaitDurability } = createDurability({
    connection: waiter,
    waits,
    trusted: parts.store.fence.trusted,
    timeoutMs: config.DURABILITY_TIMEOUT_MS,
  });
  const hint = (topic: 'timers' | 'ticks' | 'cancels' | 'queues' | 'groups', text: string) =>
    publishHint(parts.store.writer.redis, config.KEY_PREFIX, topic, text);
  const commands: CommandDeps &
    SessionDeps &
    JobCommandDeps &
    QueueCommandDeps &
    ScheduleCommandDeps & { readonly people: typeof people } = {
    ...commandBasics(parts.store),
    store: parts.store,
    hmac: hexHmac(hmac),
    idempotencyRetentionMs: config.IDEMPOTENCY_RETENTION * 1000,
    awaitDurability,
    people,
    sealJob,
    passwordMatches: people.passwordMatches,
    randomSecret: () => randomBytes(32).toString('base64url'),
    sha256: (text) => createHash('sha256').update(text).digest('hex'),
    sessionLifetimeMs: SESSION_LIFETIME_MS,
    hint: {
      timer: (partition, dueAt) => hint('timers', `${partition} ${dueAt}`),
      tick: (partition, at) => hint('ticks', `${partition} ${at}`),
      cancel: (jobId) => hint('cancels', jobId),
      queue: (queue) => hint('queues', queue),
    },
  };
  return {
    ...parts,
    hmac,
    people,
    opened,
    waits,
    commands,
    hintGroup: (group: string) => hint('groups', group),
    async close() {
      waits.close();
      subscriber.disconnect();
      waiter.close();
      await parts.close();
    },
  };
}

/** Keyed hashes as commands name things by them. */
export function hexHmac(hmac: Hmac): CommandDeps['hmac'] {
  return (purpose, text) => hmac(purpose, text).toString('hex');
}

/** Clock, randomness and tracing of whatever commits. All processes have one clock: that of Redis. */
export function commandBasics({
  clock,
}: Pick<OpenEventStore, 'clock'>): Pick<CommandDeps, 'now' | 'randomText' | 'traceCommit'> {
  return {
    now: clock.now,
    randomText,
    traceCommit: (partition, run) =>
      withSpan(
        SPAN.commit,
        { kind: SpanKind.PRODUCER, attributes: () => ({ [ATTR.partition]: partition }) },
        () => run(currentTraceparent()),
      ),
  };
}
