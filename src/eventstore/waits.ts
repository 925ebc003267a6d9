import type { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import type { Position } from '../domain/position.ts';
import { checkpointChannel } from './partitions.ts';
import type { LedgerTables } from './tables.ts';

/** `lost`: the position's epoch ended below it, so no checkpoint will ever stand for that event. */
export type WaitOutcome = 'reached' | 'timeout' | 'lost';

export type Wait = {
  /** `ledger`, `projection:jobs@2`. */
  readonly group: string;
  readonly position: Position;
  readonly timeoutMs: number;
  /** Ends the wait as `timeout`. */
  readonly signal?: AbortSignal;
};

export type CheckpointWaits = {
  /** Resolves when the group's checkpoint has passed the position, or never will, or the time is up. Never throws. */
  waitFor(wait: Wait): Promise<WaitOutcome>;
  close(): void;
};

type Waiting = {
  readonly seq: number;
  /** The first look that is about it. */
  look: 'to come' | 'begun' | 'done';
  /** Its time is up: what the first look finds is the last that it is told. */
  late: boolean;
  end(outcome: WaitOutcome): void;
};
/** All that wait for one group at one epoch of a partition: one row of the query. */
type Topic = {
  readonly group: string;
  readonly partition: number;
  readonly epoch: number;
  readonly waiting: Set<Waiting>;
};

/** How much longer than its time a wait may take to look at least once: also who waits for nothing asks. */
const FIRST_LOOK_MS = 1_000;

/**
 * Waits for checkpoints, for everyone in this process: Consistent-With, Durability: ledger, exports. Hints on
 * pub/sub say when to look, the rows in Postgres are the truth, and without hints they are looked at every
 * `pollMs`. One query at a time serves all that wait.
 * @param subscriber of `connectSubscriber`; not closed here
 */
export function createCheckpointWaits({
  subscriber,
  db,
  prefix,
  pollMs = 250,
}: {
  readonly subscriber: Redis;
  readonly db: Kysely<LedgerTables>;
  readonly prefix: string;
  readonly pollMs?: number;
}): CheckpointWaits {
  const topics = new Map<string, Topic>();
  const toLookAt = new Set<Topic>();
  let looking = false;

  const channel = checkpointChannel(prefix);
  const onMessage = (from: string, text: string) => {
    if (from === channel) hinted(text);
  };
  subscriber.on('message', onMessage);
  // Without a subscription the polling goes on; ioredis subscribes again when it is back.
  subscriber.subscribe(channel).catch(() => {});
  const poll = setInterval(() => {
    for (const topic of topics.values()) toLookAt.add(topic);
    look();
  }, pollMs);
  poll.unref();

  /** `<group> <partition> <epoch> <seq>`; a hint below what is waited for is not worth a query. */
  function hinted(text: string): void {
    const [group, partition, , seq] = text.split(' ');
    for (const topic of topics.values()) {
      if (topic.group !== group || topic.partition !== Number(partition)) continue;
      for (const { seq: wanted } of topic.waiting) {
        if (wanted > Number(seq)) continue;
        toLookAt.add(topic);
        break;
      }
    }
    look();
  }

  function look(): void {
    if (looking || toLookAt.size === 0) return;
    looking = true;
    // Those that come in the same tick share the query; those that come while it runs share the next.
    setImmediate(async () => {
      const asked = [...toLookAt];
      toLookAt.clear();
      for (const { waiting } of asked) {
        for (const each of waiting) if (each.look === 'to come') each.look = 'begun';
      }
      try {
        const found = await readProgress(db, asked);
        for (const [index, topic] of asked.entries()) settle(topic, found[index]);
      } catch {
        // Postgres is away: nobody can say. It is asked again at the next poll, until each waiter's time is up.
      }
      looking = false;
      look();
    });
  }

  return {
    waitFor({ group, position, timeoutMs, signal }) {
      if (signal?.aborted) return Promise.resolve('timeout');
      const { partition, epoch, seq } = position;
      const name = `${group} ${partition} ${epoch}`;
      const topic = topics.get(name) ?? { group, partition, epoch, waiting: new Set() };
      topics.set(name, topic);
      return new Promise((resolve) => {
        const end = (outcome: WaitOutcome) => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', giveUp);
          topic.waiting.delete(waiting);
          if (topic.waiting.size === 0 && topics.get(name) === topic) topics.delete(name);
          resolve(outcome);
        };
        const giveUp = () => end('timeout');
        const waiting: Waiting = { seq, end, look: 'to come', late: false };
        // Without a look nobody knows whether there was anything to wait for.
        const firstLook = Math.max(0, FIRST_LOOK_MS - timeoutMs);
        let timer = setTimeout(() => {
          if (firstLook === 0 || waiting.look === 'done') return giveUp();
          waiting.late = true;
          timer = setTimeout(giveUp, firstLook);
        }, timeoutMs);
        signal?.addEventListener('abort', giveUp);
        topic.waiting.add(waiting);
        toLookAt.add(topic);
        look();
      });
    },
    close() {
      clearInterval(poll);
      subscriber.off('message', onMessage);
      for (const topic of topics.values()) for (const waiting of topic.waiting) waiting.end('timeout');
    },
  };
}

/** How far a group is, and how far the positions of the asked epoch go. */
type Progress = {
  /** Null: the group has no checkpoint there yet. */
  readonly seq: number | null;
  /** Null: there never was such an epoch. */
  readonly epoch: number | null;
  /** Null: the epoch goes on. */
  readonly last_seq: number | null;
};

function settle(topic: Topic, progress: Progress | undefined): void {
  if (!progress) return;
  const { seq, epoch, last_seq } = progress;
  for (const waiting of [...topic.waiting]) {
    if (epoch === null || (last_seq !== null && waiting.seq > last_seq)) waiting.end('lost');
    else if (seq !== null && waiting.seq <= seq) waiting.end('reached');
    else if (waiting.look !== 'to come') {
      waiting.look = 'done';
      if (waiting.late) waiting.end('timeout');
    }
  }
}

async function readProgress(
  db: Kysely<LedgerTables>,
  topics: readonly Topic[],
): Promise<readonly Progress[]> {
  const groups = topics.map(({ group }) => group);
  const partitions = topics.map(({ partition }) => partition);
  const epochs = topics.map(({ epoch }) => epoch);
  const { rows } = await sql<Progress>`
    SELECT checkpoints.seq, epochs.epoch, epochs.last_seq
    FROM unnest(${groups}::text[], ${partitions}::int[], ${epochs}::int[])
      WITH ORDINALITY AS asked(group_name, partition, epoch, index)
    LEFT JOIN checkpoints USING (group_name, partition)
    LEFT JOIN epochs ON epochs.partition = asked.partition AND epochs.epoch = asked.epoch
    ORDER BY asked.index`.execute(db);
  return rows;
}
