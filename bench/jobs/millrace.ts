import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { Type } from 'typebox';
import { createHmacs } from '../../src/access/signing.ts';
import { openParts } from '../../src/app/base.ts';
import { roleDeps } from '../../src/app/consuming.ts';
import { keepNewObjectsYoung } from '../../src/app/garbage.ts';
import { commandBasics, hexHmac, openWriteSide } from '../../src/app/write-side.ts';
import type { CommandContext } from '../../src/commands/handle.ts';
import { enqueueJob } from '../../src/commands/jobs/requests.ts';
import { defineJob } from '../../src/consumers/define-job.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import { jobOf } from '../../src/domain/job-types.ts';
import { LEDGER_GROUP } from '../../src/eventstore/checkpoints.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { CommitOutcome } from '../../src/eventstore/types.ts';
import { plainJobs, projections } from '../../src/features.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import { groupOf } from '../../src/projections/projection.ts';
import { startTracing } from '../../src/telemetry/start.ts';
import { baseOf } from './base.ts';
import type { Contestant, Payload, Prepared, Seen, Worker } from './contestant.ts';
import { createDatabase, dropDatabase, redisUrl } from './places.ts';
import { caughtUp, startProjecting } from './projecting.ts';

const owner = `acc-00${'a'.repeat(20)}`;
const PayloadSchema = Type.Object({ n: Type.Integer(), sentAt: Type.Number(), text: Type.String() });

function noop(started: (payload: Payload, jobId: string) => void) {
  return defineJob({
    type: 'noop',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 3,
    timeoutSeconds: 60,
    retry: { baseMs: 500, capMs: 30_000 },
    payload: PayloadSchema,
    result: Type.Number(),
    async run({ job }) {
      started(job.payload, job.id);
      return job.payload.sentAt;
    },
  });
}

/** The queue alone: projectors are stopped, so nothing leaves the log. */
export const engine: Contestant = {
  ...sides(),
  name: 'Millrace, engine',
  part: 1,
  prepare: (place) => prepare(place),
};

/** All of it: every event goes to the ledger, and every job has its row in the read model. */
export const whole: Contestant = {
  ...sides(true),
  name: 'Millrace, whole',
  part: 1,
  async prepare(place) {
    const prepared = await prepare(place);
    const projecting = await startProjecting(place);
    return {
      settle: projecting.settle,
      async remove() {
        await projecting.stop();
        await prepared.remove();
      },
    };
  },
};

async function prepare(place: string): Promise<Prepared> {
  await createDatabase(place);
  const { DATABASE_URL: url } = baseOf(place).config;
  const db = openDatabase({ url, max: 1, applicationName: 'bench' });
  await migrateToLatest(db).finally(() => db.destroy());
  return {
    async remove() {
      await removeKeys(place);
      await dropDatabase(place);
    },
  };
}

async function removeKeys(place: string): Promise<void> {
  const redis = new Redis(redisUrl());
  for await (const keys of redis.scanStream({ match: `${place}:*`, count: 5_000 })) {
    if (Array.isArray(keys) && keys.length > 0) await redis.unlink(keys.map(String));
  }
  redis.disconnect();
}

function sides(withProjectors = false): Pick<Contestant, 'producer' | 'worker'> {
  return {
    async producer(place) {
      setUp();
      const { commands } = await openWriteSide(baseOf(place), 'bench-producer');
      // As for a type that says `personal: false`: no other contestant seals what it stores.
      const impersonal: typeof commands = { ...commands, sealJob: async (_, job) => job };
      const type = noop(() => {});
      const add = async (payload: Payload) => {
        const context: CommandContext = {
          actor: owner,
          owner,
          correlation: randomBytes(16).toString('hex'),
          durability: 'memory',
        };
        const result = await enqueueJob(impersonal, context, jobOf(type, payload));
        if (result.kind !== 'done') throw new Error(result.kind);
      };
      // As POST /v1/jobs/batch does it: each job has a commit of its own, and those of a tick travel together.
      return { add, addMany: (payloads) => Promise.all(payloads.map(add)) };
    },
    async worker(place) {
      setUp();
      const parts = await openParts(baseOf(place), 'bench-worker');
      const run: Worker['run'] = async (concurrency, seen) => {
        const base = baseOf(place, concurrency);
        const { job, store } = watched(parts.store, seen);
        const running = await startWorkers({
          ...roleDeps(base, { ...parts, store }, 'workers'),
          ...commandBasics(parts.store),
          hmac: hexHmac(createHmacs(base.config.HMAC_KEY)),
          jobs: [...plainJobs, job],
          concurrency,
          drainMs: 5_000,
          random: Math.random,
        });
        await running.ready();
        return { stop: () => running.stop() };
      };
      if (!withProjectors) return { run };
      const groups = [LEDGER_GROUP, groupOf(projections.jobs)];
      return { run, unfinished: async () => ((await caughtUp(parts, groups)) ? 0 : 1) };
    },
  };
}

/** A job is done when the commit that completes it has been answered. */
function watched(store: OpenEventStore, seen: Seen) {
  const sentAt = new Map<string, number>();
  const job = noop((payload, jobId) => {
    sentAt.set(jobId, payload.sentAt);
    seen.started(payload);
  });
  const commit: OpenEventStore['commit'] = (request) => {
    const answer = store.commit(request);
    const noteDone = ({ kind }: CommitOutcome) => {
      if (kind !== 'committed') return;
      for (const { streamId, events } of request.appends) {
        const sent = sentAt.get(streamId);
        if (sent === undefined || events.at(-1)?.type !== 'JobCompleted') continue;
        sentAt.delete(streamId);
        seen.done({ sentAt: sent });
      }
    };
    answer.then(noteDone, () => {}); // what failed is for the worker to see
    return answer;
  };
  return { job, store: { ...store, commit } };
}

/** As `main.ts` does. */
function setUp(): void {
  keepNewObjectsYoung();
  startTracing({ serviceName: 'bench', role: 'bench', instanceId: 'bench', sampleRatio: 1 });
}
