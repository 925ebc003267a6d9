import { type Random, randomOf } from './random.ts';

/** Processes of a round, by name; it is their INSTANCE_ID, too. */
export const PROCESSES = {
  api: ['api-1', 'api-2'],
  workers: ['worker-1', 'worker-2', 'worker-3'],
  projectors: ['projector-1', 'projector-2'],
} as const;
export type ProcessName = (typeof PROCESSES)[keyof typeof PROCESSES][number];
const ALL: readonly ProcessName[] = Object.values(PROCESSES).flat();
const CONSUMERS: readonly ProcessName[] = [...PROCESSES.workers, ...PROCESSES.projectors];

export type ServerName = 'redis' | 'postgres';

/** What the suite can do to an installation, and what each means. */
export const KINDS = {
  kill: 'SIGKILL of a process; it is started again under its INSTANCE_ID',
  stop: 'SIGSTOP of a process for longer than a lease, then SIGCONT: the zombie',
  deploy: 'SIGTERM of a process; it is started again when it has left',
  'redis-restart': 'Redis is stopped in order, and started again',
  'redis-kill': 'SIGKILL of Redis, started again from its append-only file',
  'redis-hang': 'SIGSTOP of Redis for some seconds',
  'postgres-restart': 'Postgres is stopped in order (fast), and started again',
  'postgres-kill': 'SIGKILL of Postgres, which recovers from its write-ahead log',
  'drop-replies': 'a proxy passes requests on, and breaks the connection before the reply',
  'half-open': 'a proxy swallows what comes from one side, connections stay open',
  partition: 'a proxy breaks the connections of a process to a server, and refuses new ones',
  latency: 'a proxy delays the answers of a server to a process',
  rebuild: 'a read model is rebuilt while all goes on, and goes live when it can',
  clock: 'the clock of a worker jumps by minutes, and later back',
} as const;
export type Kind = keyof typeof KINDS;
const kinds = Object.keys(KINDS) as readonly Kind[];

export type Fault = {
  /** Since the storm's begin. */
  readonly atMs: number;
  /** Until it is healed. */
  readonly forMs: number;
} & (
  | { readonly kind: 'kill' | 'stop' | 'deploy'; readonly process: ProcessName }
  | { readonly kind: `redis-${'restart' | 'kill' | 'hang'}` | `postgres-${'restart' | 'kill'}` }
  | { readonly kind: 'drop-replies'; readonly process: ProcessName; readonly replies: number }
  | {
      readonly kind: 'half-open';
      readonly process: ProcessName;
      readonly server: ServerName;
      readonly side: 'answers' | 'requests';
    }
  | { readonly kind: 'partition'; readonly process: ProcessName; readonly server: ServerName }
  | {
      readonly kind: 'latency';
      readonly process: ProcessName;
      readonly server: ServerName;
      readonly delayMs: number;
    }
  | { readonly kind: 'rebuild'; readonly readModel: 'jobs' | 'dead-letters' }
  | { readonly kind: 'clock'; readonly process: ProcessName; readonly shiftMs: number }
);

/** How often a kind comes up in a deck; the others once. */
const WEIGHTS: Partial<Record<Kind, number>> = {
  kill: 4,
  stop: 2,
  deploy: 2,
  'drop-replies': 3,
  partition: 2,
  rebuild: 2,
};

const GAP_MS = { least: 500, most: 4_500 } as const;

/**
 * The faults of a storm. They follow from the seed alone: kinds come from a shuffled deck, so that a short storm has
 * seen most of them; they overlap at times.
 * @param leaseMs how long the leases of the processes last
 */
export function planFaults(
  seed: number,
  stormMs: number,
  leaseMs: number,
  only: readonly Kind[] = kinds,
): Fault[] {
  const random = randomOf(seed, 'faults');
  const faults: Fault[] = [];
  let deck: Kind[] = [];
  for (let atMs = 1_000; ; atMs += random.between(GAP_MS.least, GAP_MS.most)) {
    if (deck.length === 0) {
      deck = random.shuffled(only.flatMap((kind) => Array.from({ length: WEIGHTS[kind] ?? 1 }, () => kind)));
    }
    const kind = deck.pop();
    if (kind === undefined) return faults;
    const fault = draw(random, kind, atMs, leaseMs);
    // What is not over by then would not be a fault of this storm.
    if (atMs >= stormMs - 2_000) return faults;
    faults.push({ ...fault, forMs: Math.min(fault.forMs, stormMs - atMs) });
  }
}

function draw(random: Random, kind: Kind, atMs: number, leaseMs: number): Fault {
  const server = random.pick(['redis', 'redis', 'postgres'] as const);
  const some = random.pick(ALL);
  switch (kind) {
    case 'kill':
      // At times for longer than a lease: then others take over, and it comes back to find them.
      return {
        kind,
        atMs,
        process: some,
        forMs: random.chance(0.25) ? leaseMs + 2_000 : random.between(100, 2_000),
      };
    case 'stop':
      return { kind, atMs, process: random.pick(CONSUMERS), forMs: leaseMs + random.between(500, 4_000) };
    case 'deploy':
      return { kind, atMs, process: some, forMs: random.between(0, 1_000) };
    case 'redis-restart':
    case 'redis-kill':
    case 'postgres-restart':
    case 'postgres-kill':
      return { kind, atMs, forMs: random.between(100, 3_000) };
    case 'redis-hang':
      return { kind, atMs, forMs: random.between(500, 6_000) };
    case 'drop-replies':
      return { kind, atMs, process: some, replies: random.between(1, 5), forMs: 3_000 };
    case 'half-open': {
      const side = random.pick(['answers', 'requests'] as const);
      return { kind, atMs, process: some, server, side, forMs: random.between(1_000, leaseMs + 3_000) };
    }
    case 'partition':
      return { kind, atMs, process: some, server, forMs: random.between(200, leaseMs + 3_000) };
    case 'latency':
      return {
        kind,
        atMs,
        process: some,
        server,
        delayMs: random.between(20, 700),
        forMs: random.between(1_000, 6_000),
      };
    case 'rebuild':
      // As long as it is tried to be begun.
      return { kind, atMs, readModel: random.pick(['jobs', 'jobs', 'dead-letters'] as const), forMs: 8_000 };
    case 'clock': {
      const minutes = random.pick([-30, -5, -2, 2, 5, 30]);
      const process = random.pick(PROCESSES.workers);
      return { kind, atMs, process, shiftMs: minutes * 60_000, forMs: random.between(3_000, 10_000) };
    }
  }
}

/** One line for people. */
export function describeFault(fault: Fault): string {
  const { kind, atMs, forMs, ...rest } = fault;
  const details = Object.values(rest).join(' ');
  return `${(atMs / 1000).toFixed(1).padStart(6)} s  ${kind}${details ? ` ${details}` : ''} (${(forMs / 1000).toFixed(1)} s)`;
}
