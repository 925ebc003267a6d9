import { MAX_PARTITIONS } from '../domain/ids.ts';

/** Hash slots of a Redis Cluster. */
const SLOTS = 16_384;

/** Names of one partition's keys. They share a hash tag, so one script may touch them all. */
export type PartitionKeys = {
  readonly partition: number;
  /** Hash tag, without braces. */
  readonly tag: string;
  /** Hash: store, partitions, epoch, recovery, seq, run, evicted. */
  readonly meta: string;
  /** Stream of events; ids are `<epoch>-<seq>`. */
  readonly log: string;
  /** Sorted set, scored by when work becomes due (ms): `<seq of its event, 14 digits> <job id>`, so ties go by position. */
  readonly timers: string;
  /** Hash: job id → `<seq, 14 digits> <work as encodeTimer writes it>`. */
  readonly timerWork: string;
  /** Sorted set: schedule id, scored by its next tick (ms). */
  readonly ticks: string;
  readonly state: (streamId: string) => string;
  /** What the names of states begin with. */
  readonly states: string;
  readonly claim: (key: string) => string;
  readonly lease: (group: string) => string;
  readonly work: (queue: string, priority: string) => string;
  /** Hash: lane → `<job id> <due>` of the work entry by which the job holds it. */
  readonly blocked: (queue: string) => string;
  /** List of work that waits behind the holder of a lane, oldest first: `<job id> <type> <due> <traceparent>`. */
  readonly parked: (queue: string, lane: string) => string;
  /** What the names of a queue's parked lists begin with, up to the colon before the lane. */
  readonly parkedLists: (queue: string) => string;
  readonly cursor: (reactor: string) => string;
  /** Of a concurrency limit: jobs by when their slots run out, their runs, and who waits. Lies in one partition. */
  readonly slots: (name: string) => string;
  readonly slotRuns: (name: string) => string;
  readonly slotWaiting: (name: string) => string;
};

/**
 * Keys of every partition, by index.
 * @param prefix KEY_PREFIX: what this installation's keys begin with; no braces
 * @param partitions 1 … 1024, fixed for the installation
 */
export function createKeys(prefix: string, partitions: number): readonly PartitionKeys[] {
  return partitionTags(partitions).map((tag, partition) => keysOf(prefix, partition, tag));
}

/** Key names of one partition, given its tag. */
export function keysOf(prefix: string, partition: number, tag: string): PartitionKeys {
  if (!/^[A-Za-z0-9_.:-]+$/.test(prefix)) throw new Error(`"${prefix}" is no prefix for keys`);
  const base = `${prefix}:{${tag}}:`;
  return {
    partition,
    tag,
    meta: `${base}meta`,
    log: `${base}log`,
    timers: `${base}timers`,
    timerWork: `${base}timers:work`,
    ticks: `${base}ticks`,
    state: (streamId) => `${base}state:${streamId}`,
    states: `${base}state:`,
    claim: (key) => `${base}claim:${key}`,
    lease: (group) => `${base}lease:${group}`,
    work: (queue, priority) => `${base}work:${queue}:${priority}`,
    blocked: (queue) => `${base}blocked:${queue}`,
    parked: (queue, lane) => `${base}parked:${queue}:${lane}`,
    parkedLists: (queue) => `${base}parked:${queue}`,
    cursor: (reactor) => `${base}cursor:${reactor}`,
    slots: (name) => `${base}slots:${name}`,
    slotRuns: (name) => `${base}slots:${name}:runs`,
    slotWaiting: (name) => `${base}slots:${name}:waiting`,
  };
}

/** The channel on which ordered groups say that they have moved: `<group> <partition> <epoch> <seq>`. */
export function checkpointChannel(prefix: string): string {
  return `${prefix}:checkpoints`;
}

/**
 * Hash tags, such as `3.4h`: partition i's slot lies in the middle of the i-th of N equal ranges of slots, so
 * that partitions are spread evenly (±1) over however many masters share the slots in equal ranges. Plain tags
 * are not: `{p0}` … `{p15}` fall 4/5/7 on three masters. Found by search, the same on every process.
 */
export function partitionTags(partitions: number): readonly string[] {
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > MAX_PARTITIONS) {
    throw new Error(`PARTITIONS must be between 1 and ${MAX_PARTITIONS}, not ${partitions}`);
  }
  const width = SLOTS / partitions;
  const tolerance = width / 16;
  return Array.from({ length: partitions }, (_, partition) => {
    const middle = (partition + 0.5) * width;
    for (let attempt = 0; ; attempt++) {
      const tag = `${partition}.${attempt.toString(36)}`;
      if (Math.abs(slotOf(tag) - middle) <= tolerance) return tag;
    }
  });
}

/** Slot of a key without braces, or of a hash tag (CRC-16/XMODEM mod 16384; Redis Cluster specification). */
export function slotOf(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(key)) {
    crc = ((crc << 8) & 0xffff) ^ (CRC16[((crc >> 8) ^ byte) & 0xff] ?? 0);
  }
  return crc % SLOTS;
}

const CRC16 = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc & 0xffff;
});
