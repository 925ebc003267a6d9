import { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import { LEDGER_GROUP } from '../../src/eventstore/checkpoints.ts';
import { readLedger } from '../../src/eventstore/ledger-read.ts';
import { LogGapError, readLogAfter } from '../../src/eventstore/log.ts';
import { readMetas } from '../../src/eventstore/meta.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { projections } from '../../src/features.ts';
import type { Database } from '../../src/projections/database.ts';
import { type AnyProjection, type AnyRow, groupOf } from '../../src/projections/projection.ts';
import type { Effect, History } from './history.ts';
import { PARTITIONS, PREFIX } from './installation.ts';
import { SAID } from './job.ts';
import type { Servers } from './servers.ts';

const PAGE = 5_000;

/** The suite's own eyes: on the servers themselves, past all proxies. */
export type Eyes = {
  /** What still keeps the installation from having settled: empty when it has. */
  unsettled(): Promise<string[]>;
  /** Dead letters that hold on: `jobId` and the version of that event. */
  deadLetters(): Promise<{ jobId: string; version: number }[]>;
  /** Grows for as long as anything happens. */
  progress(): Promise<number>;
  /** Ids of jobs that the ledger holds. */
  jobIds(): Promise<Set<string>>;
  gather(): Promise<Omit<History, 'promises' | 'asked' | 'oddities' | 'crashes'>>;
  close(): Promise<void>;
};

export function openEyes(servers: Servers): Eyes {
  const keys = createKeys(PREFIX, PARTITIONS);
  const db = openDatabase<Database>({
    url: servers.postgres.url,
    max: 3,
    applicationName: 'faults',
    onError: () => {},
  });
  const redis = new Redis(servers.redis.url, { maxRetriesPerRequest: null });
  const effects = new Redis(servers.effects.url);
  for (const each of [redis, effects]) each.on('error', () => {});
  const readModels: readonly AnyProjection[] = Object.values(projections);

  async function leftovers(): Promise<History['leftovers']> {
    const found: { key: string; entries: number }[] = [];
    for await (const batch of redis.scanStream({ match: `${PREFIX}:{*}:*`, count: 1_000 })) {
      for (const key of Array.isArray(batch) ? batch.map(String) : []) {
        const entries = await sizeOf(key);
        if (entries > 0) found.push({ key, entries });
      }
    }
    return found;
  }

  async function sizeOf(key: string): Promise<number> {
    const [, , name = ''] = key.split(/[{}]:?/);
    if (name.startsWith('work:')) return redis.xlen(key);
    if (name.startsWith('blocked:')) return redis.hlen(key);
    if (name.startsWith('parked:')) return redis.llen(key);
    if (name === 'timers' || /^slots:[^:]+$/.test(name)) return redis.zcard(key);
    if (/^slots:[^:]+:waiting$/.test(name)) return redis.zcard(key);
    if (name === 'timers:work') return redis.hlen(key);
    return 0;
  }

  async function lastEvents(): Promise<{ stream_id: string; type: string; version: number }[]> {
    const { rows } = await sql<{ stream_id: string; type: string; version: number }>`
      SELECT h.stream_id, l.type, l.version FROM stream_heads h
      JOIN ledger l ON l.stream_id = h.stream_id AND l.version = h.version
      WHERE h.stream_id LIKE 'job-%'`.execute(db);
    return rows;
  }

  async function behind(): Promise<string[]> {
    const metas = await readMetas(redis, keys);
    const checkpoints = await db
      .selectFrom('checkpoints')
      .select(['group_name', 'partition', 'seq'])
      .execute();
    const at = new Map(checkpoints.map((row) => [`${row.group_name} ${row.partition}`, row.seq]));
    return [LEDGER_GROUP, ...readModels.map(groupOf)].flatMap((group) =>
      metas.flatMap((meta, partition) => {
        const seq = at.get(`${group} ${partition}`) ?? 0;
        return seq === meta?.seq ? [] : [`${group} is at ${seq} of ${meta?.seq} in partition ${partition}`];
      }),
    );
  }

  async function rebuilding(): Promise<string[]> {
    const rebuilds = await db
      .selectFrom('rebuilds')
      .select(['projection', 'phase', 'problem'])
      .where((eb) => eb.or([eb('ended_at', 'is', null), eb('phase', '=', 'failed')]))
      .execute();
    return rebuilds.map((each) => `a rebuild of ${each.projection} is ${each.phase}: ${each.problem ?? ''}`);
  }

  return {
    async unsettled() {
      const late = [...(await behind()), ...(await rebuilding())];
      if (late.length > 0) return late;
      const ended = ['JobCompleted', 'JobCancelled', 'JobDeadLettered', 'JobDiscarded'];
      const running = (await lastEvents()).filter(({ type }) => !ended.includes(type));
      if (running.length > 0)
        return running.map(({ stream_id, type }) => `${stream_id} has not ended: ${type}`);
      return (await leftovers()).map(({ key, entries }) => `${key} holds ${entries}`);
    },
    async deadLetters() {
      const rows = await lastEvents();
      return rows
        .filter(({ type }) => type === 'JobDeadLettered')
        .map(({ stream_id, version }) => ({ jobId: stream_id, version }));
    },
    async progress() {
      const metas = await readMetas(redis, keys);
      const rows = await db.selectFrom('checkpoints').select('seq').execute();
      return [...metas, ...rows].reduce((sum, row) => sum + (row?.seq ?? 0), 0);
    },
    async jobIds() {
      const rows = await db.selectFrom('stream_heads').select('stream_id').execute();
      return new Set(rows.map((row) => row.stream_id));
    },
    async gather() {
      const events = (await Promise.all(keys.map(({ partition }) => wholeLedger(db, partition)))).flat();
      const heads = await db.selectFrom('stream_heads').select(['stream_id', 'version', 'seq']).execute();
      const chain = await db
        .selectFrom('ledger_batches')
        .selectAll()
        .orderBy('partition')
        .orderBy('last_seq')
        .execute();
      const log = await Promise.all(keys.map((each) => wholeLog(redis, each)));
      const metas = await readMetas(redis, keys);
      const parked = await db.selectFrom('parked_events').select('seq').execute();
      return {
        events,
        heads: heads.map(({ stream_id, ...head }) => ({ streamId: stream_id, ...head })),
        chain: chain.map(({ first_seq, last_seq, ...batch }) => ({
          ...batch,
          first: first_seq,
          last: last_seq,
        })),
        log: log.flat(),
        logHeads: metas.map((meta) => meta?.seq ?? 0),
        readModels: await Promise.all(
          readModels.map(async (projection) => ({ projection, rows: await rowsOf(db, projection) })),
        ),
        parked: parked.length,
        effects: await readEffects(effects),
        leftovers: await leftovers(),
      };
    },
    async close() {
      redis.disconnect();
      effects.disconnect();
      await db.destroy();
    },
  };
}

async function wholeLedger(db: Kysely<Database>, partition: number) {
  const events = [];
  for (;;) {
    const page = await readLedger(db, { partition, after: events.at(-1)?.seq ?? 0, limit: PAGE });
    events.push(...page);
    if (page.length < PAGE) return events;
  }
}

async function wholeLog(redis: Redis, keys: ReturnType<typeof createKeys>[number]): Promise<History['log']> {
  const [first] = await redis.xrange(keys.log, '-', '+', 'COUNT', 1);
  if (!first) return [];
  const [epoch = 0, seq = 0] = first[0].split('-').map(Number);
  try {
    // The one before the first: what is read begins with it.
    const events = [...(await readLogAfter(redis, keys, { epoch, seq: seq - 1 }, PAGE))];
    for (;;) {
      const from = events.at(-1);
      const page = from ? await readLogAfter(redis, keys, from, PAGE) : [];
      events.push(...page);
      if (page.length < PAGE) return events;
    }
  } catch (error) {
    // Trimmed meanwhile: it begins later now. A gap that is there to stay is reported by the next look.
    const [now] = await redis.xrange(keys.log, '-', '+', 'COUNT', 1);
    if (!(error instanceof LogGapError) || now?.[0] === first[0]) throw error;
    return wholeLog(redis, keys);
  }
}

async function rowsOf(db: Kysely<Database>, { table, columns }: AnyProjection): Promise<AnyRow[]> {
  const names = Object.keys(columns).map((name) => sql.ref(name));
  const { rows } = await sql<AnyRow>`SELECT ${sql.join(names)} FROM ${sql.table(table)}`.execute(db);
  return rows;
}

async function readEffects(redis: Redis): Promise<Effect[]> {
  const effects: Effect[] = [];
  for (let after = '-'; ; ) {
    const page = await redis.xrange('effects', after, '+', 'COUNT', PAGE);
    for (const [id, [, what, , job = '', , attempt, , run = '', , by = '']] of page) {
      const known = SAID.find((each) => each === what);
      if (known)
        effects.push({ what: known, job, attempt: Number(attempt), run, by, at: Number(id.split('-')[0]) });
    }
    if (page.length < PAGE) return effects;
    after = `(${page.at(-1)?.[0]}`;
  }
}
