/** What every contestant's jobs carry: 200 bytes as JSON. */
export type Payload = {
  readonly n: number;
  /** Milliseconds since 1970, with fractions: when the producer began to enqueue it. */
  readonly sentAt: number;
  readonly text: string;
};

const PAYLOAD_BYTES = 200;

export function payloadOf(n: number, sentAt = now()): Payload {
  const bare = JSON.stringify({ n, sentAt, text: '' }).length;
  return { n, sentAt, text: 'x'.repeat(Math.max(0, PAYLOAD_BYTES - bare)) };
}

/** One clock for producer and worker, finer than a millisecond. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

export type Producer = {
  add(payload: Payload): Promise<unknown>;
  addMany(payloads: readonly Payload[]): Promise<unknown>;
};

/** What a worker tells of each job. */
export type Seen = {
  /** The handler was called. */
  readonly started: (payload: Payload) => void;
  /** The server has acknowledged the end of the job; where the library does not tell, the handler's return. */
  readonly done: (payload: Pick<Payload, 'sentAt'>) => void;
};

export type Worker = {
  run(concurrency: number, seen: Seen): Promise<{ stop(): Promise<unknown> }>;
  /** Of the jobs so far, how many the server does not know as finished. Absent: `done` says so. */
  readonly unfinished?: () => Promise<number>;
};

/** `place` names what one round has to itself: a queue, a schema, a prefix and a database. */
export type Contestant = {
  readonly name: string;
  /** Of the jobs that the others are given, as it is slower. */
  readonly part: number;
  prepare(place: string): Promise<Prepared>;
  producer(place: string): Promise<Producer>;
  worker(place: string): Promise<Worker>;
};

export type Prepared = {
  /** Waits until what was enqueued rests where it will wait; then the memory for it is looked at. */
  readonly settle?: () => Promise<void>;
  readonly remove: () => Promise<void>;
};
