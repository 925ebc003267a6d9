import { setTimeout as sleep } from 'node:timers/promises';
import type { Static } from 'typebox';
import type { FAULTS_JOBS, Step } from './job.ts';
import { type Random, randomOf } from './random.ts';

/**
 * What became of a request, as its client knows: `acknowledged`, `refused` (nothing was done, says the answer),
 * `unknown` (no answer, or one that says so, and no later one under the same key).
 */
export type Outcome = 'acknowledged' | 'refused' | 'unknown';

export type Durability = 'memory' | 'replicated' | 'ledger';

/** A job that a client wants. */
export type Wish = {
  readonly n: number;
  readonly type: (typeof FAULTS_JOBS)[number];
  readonly steps: readonly Static<typeof Step>[];
  readonly queue: 'default' | 'exports';
  readonly priority?: 'high' | 'low';
  readonly orderingKey?: string;
  /** Of these at most `AT_ONCE` run side by side. */
  readonly concurrencyKey?: string;
  /** Milliseconds from the request on. */
  readonly delayMs?: number;
  readonly durability: Durability;
  /** Milliseconds after its acknowledgement. */
  readonly cancelAfterMs?: number;
  /** The client asks again, under the same key, until it knows. */
  readonly persistent: boolean;
};

export type Promised = {
  readonly n: number;
  readonly outcome: Outcome;
  /** Ids that were answered: one, however often it was asked. */
  readonly jobIds: readonly string[];
  /** What was reached, as the answer has it. */
  readonly durability?: Durability;
  /** When the answer was there, ms since 1970. */
  readonly at: number;
};
/** A change of a job that was asked for. */
export type Asked = {
  readonly what: 'cancel' | 'retry';
  readonly jobId: string;
  readonly outcome: Outcome;
  readonly at: number;
};

export type Load = {
  readonly promises: readonly Promised[];
  readonly asked: readonly Asked[];
  /** Answers that no fault explains: 500, 400, … by status and code. */
  readonly oddities: ReadonlyMap<string, number>;
  /** How often each answer was given, by status and code; 0: none came. */
  readonly answers: ReadonlyMap<string, number>;
  /** When a command was last acknowledged, and when last refused because commits are fenced, ms since 1970. */
  readonly last: { readonly acknowledged: number; readonly fenced: number };
  /** Asks for a dead letter to be run again: once for each version of it. */
  retry(jobId: string, version: number): Promise<void>;
  /** Asks for nothing more, and waits for what is under way. */
  stop(): Promise<void>;
};

const KEYS = 24;
const AT_ONCE = 2;
const BATCH_EVERY = 25;
const BATCH = 20;
const MOST_UNDER_WAY = 60;
const ANSWER_WITHIN_MS = 6_000;
const TRIES = 12;

/** The nth wish under a seed, whatever else happened. */
export function wishOf(seed: number, n: number, knowsKeys: boolean): Wish {
  const random = randomOf(seed, 'wish', n);
  const isQuick = random.chance(0.4);
  const keyed = knowsKeys && random.chance(0.5);
  return {
    n,
    type: isQuick ? 'faults.quick' : 'faults.work',
    steps: stepsOf(random, isQuick),
    queue: random.chance(0.8) ? 'default' : 'exports',
    ...(keyed ? { orderingKey: `key-${random.between(1, KEYS)}` } : {}),
    ...(!keyed && random.chance(0.3) ? { priority: random.pick(['high', 'low'] as const) } : {}),
    ...(random.chance(0.06) ? { concurrencyKey: `group-${random.between(1, 3)}` } : {}),
    ...(random.chance(0.2) ? { delayMs: random.between(50, 4_000) } : {}),
    durability: random.chance(0.15) ? 'ledger' : random.chance(0.02) ? 'replicated' : 'memory',
    ...(random.chance(0.08) ? { cancelAfterMs: random.between(0, 800) } : {}),
    persistent: random.chance(0.9),
  };
}

function stepsOf(random: Random, isQuick: boolean): Wish['steps'] {
  const failures = random.chance(0.2) ? random.between(1, 3) : 0;
  // A dead letter is retried by hand: then it ends well.
  const odd = random.next();
  const ends: readonly Static<typeof Step>['how'][] =
    odd < 0.03 ? ['final', 'ok'] : odd < 0.06 ? ['snooze'] : odd < 0.062 ? ['die'] : ['ok'];
  return [...Array.from({ length: failures }, () => 'throw' as const), ...ends].map((how) => {
    const ms = random.chance(isQuick ? 0.95 : 0.3)
      ? 0
      : random.chance(0.05)
        ? random.between(1_000, 7_000)
        : random.between(1, 120);
    return {
      ms,
      how,
      ...(random.chance(0.3) ? { deaf: true } : {}),
    };
  });
}

type Answer = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> };

/**
 * Wants jobs without a pause, over several APIs, as careful clients do: each request has an idempotency key, and is
 * sent again under it while its outcome is unknown.
 * @param rate wishes a second
 */
export async function startLoad(options: {
  readonly seed: number;
  readonly urls: readonly string[];
  readonly rate: number;
}): Promise<Load> {
  const { seed, urls, rate } = options;
  const promises: Promised[] = [];
  const asked: Asked[] = [];
  const oddities = new Map<string, number>();
  const answers = new Map<string, number>();
  const last = { acknowledged: 0, fenced: 0 };
  const random = randomOf(seed, 'clients');
  const person = { email: `faults-${seed}@example.com`, password: 'correct horse battery staple' };
  let token = '';

  async function send(method: string, path: string, body: unknown, headers: Record<string, string>) {
    const response = await fetch(new URL(path, random.pick(urls)), {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    const text = await response.text();
    const parsed: unknown = text.startsWith('{') ? JSON.parse(text) : {};
    const answer: Answer = {
      status: response.status,
      headers: response.headers,
      body: parsed && typeof parsed === 'object' ? { ...parsed } : {},
    };
    return answer;
  }

  async function logIn(): Promise<void> {
    const { email, password } = person;
    const answer = await send('POST', '/v1/sessions', { email, password }, {}).catch(() => undefined);
    if (answer?.status === 201) token = String(answer.body.accessToken);
  }

  /** Asks until the outcome is known, or patience ends. */
  async function ask(
    path: string,
    body: unknown,
    how: { readonly key: string; readonly durability: Durability; readonly persistent: boolean },
  ): Promise<{ outcome: Outcome; answer?: Answer }> {
    let maybe = false;
    let stands = false;
    const best = (): Outcome => (stands ? 'acknowledged' : maybe ? 'unknown' : 'refused');
    for (let attempt = 1; ; attempt++) {
      const headers = { 'idempotency-key': `"${how.key}"`, durability: how.durability };
      const answer = await send('POST', path, body, headers).catch(() => undefined);
      const status = answer?.status ?? 0;
      const code = String(answer?.body.code ?? '');
      if (answer && (status === 202 || status === 207)) {
        last.acknowledged = Date.now();
        return { outcome: 'acknowledged', answer };
      }
      const given = `${status} ${code}`.trim();
      answers.set(given, (answers.get(given) ?? 0) + 1);
      if (code === 'store_fenced') last.fenced = Date.now();
      if (code === 'durability_not_reached') stands = true;
      const isUnknown = status === 0 || status === 504;
      if (isUnknown) maybe = true;
      const isLater = status === 503 || status === 401;
      if (status === 401) await logIn();
      if (!isUnknown && !isLater) {
        if (!(code === 'job_finished' || code === 'job_not_retryable')) odd(`${status} ${code}`, answer);
        return { outcome: best() };
      }
      // Without replicas no command is ever replicated: that it stands is all there is to learn.
      if (attempt >= TRIES || !how.persistent || (stands && how.durability === 'replicated')) {
        return { outcome: best() };
      }
      await sleep(Math.min(2_000, 50 * 2 ** attempt) * (0.5 + Math.random() / 2));
    }
  }

  function odd(what: string, answer: Answer | undefined): void {
    const said = answer?.status === 500 ? what : `${what} ${JSON.stringify(answer?.body).slice(0, 300)}`;
    oddities.set(said, (oddities.get(said) ?? 0) + 1);
  }

  async function enqueue(wish: Wish): Promise<void> {
    const { outcome, answer } = await ask('/v1/jobs', bodyOf(wish), {
      key: `wish-${wish.n}`,
      durability: wish.durability,
      persistent: wish.persistent,
    });
    const reached = answer?.headers.get('durability');
    const jobId = typeof answer?.body.id === 'string' ? answer.body.id : undefined;
    promises.push({
      n: wish.n,
      outcome,
      jobIds: jobId ? [jobId] : [],
      at: Date.now(),
      ...(reached === 'memory' || reached === 'replicated' || reached === 'ledger'
        ? { durability: reached }
        : {}),
    });
    if (jobId && wish.cancelAfterMs !== undefined) {
      await sleep(wish.cancelAfterMs);
      await change('cancel', jobId, `cancel-${wish.n}`);
    }
  }

  async function enqueueBatch(wishes: readonly Wish[]): Promise<void> {
    const [first] = wishes;
    if (!first) return;
    const { outcome, answer } = await ask(
      '/v1/jobs/batch',
      { jobs: wishes.map(bodyOf) },
      { key: `batch-${first.n}`, durability: first.durability, persistent: true },
    );
    const items = Array.isArray(answer?.body.items) ? answer.body.items : [];
    for (const [index, wish] of wishes.entries()) {
      const item: { status?: unknown; id?: unknown } = items[index] ?? {};
      // An item that was refused may have been done by an earlier try of the batch.
      const its: Outcome =
        outcome !== 'acknowledged' ? outcome : item.status === 202 ? 'acknowledged' : 'unknown';
      promises.push({
        n: wish.n,
        outcome: its,
        jobIds: item.status === 202 ? [String(item.id)] : [],
        at: Date.now(),
      });
    }
  }

  async function change(what: Asked['what'], jobId: string, key: string): Promise<void> {
    const how = { key, durability: 'memory', persistent: true } as const;
    const { outcome } = await ask(`/v1/jobs/${jobId}/${what}`, undefined, how);
    asked.push({ what, jobId, outcome, at: Date.now() });
  }

  const registered = await send('POST', '/v1/accounts', { ...person, name: 'Faults' }, {});
  if (registered.status !== 201) throw new Error(`registering: ${JSON.stringify(registered.body)}`);
  await logIn();
  const contract = await fetch(new URL('/openapi.json', urls[0])).then((answer) => answer.text());
  const knowsKeys = contract.includes('"orderingKey"');

  let stopping = false;
  const underWay = new Set<Promise<void>>();
  const run = (work: Promise<void>) => {
    const tracked = work.finally(() => underWay.delete(tracked));
    underWay.add(tracked);
  };
  const loop = (async () => {
    const begun = performance.now();
    for (let n = 1; !stopping; ) {
      if (underWay.size < MOST_UNDER_WAY) {
        const wish = wishOf(seed, n, knowsKeys);
        if (n % BATCH_EVERY === 0) {
          const wishes = Array.from({ length: BATCH }, (_, index) => wishOf(seed, n + index, knowsKeys));
          run(enqueueBatch(wishes));
          n += BATCH;
        } else {
          run(enqueue(wish));
          n++;
        }
      }
      await sleep(
        Math.max(1, begun + (1000 * n) / rate - performance.now(), underWay.size < MOST_UNDER_WAY ? 0 : 20),
      );
    }
  })();
  return {
    promises,
    asked,
    oddities,
    answers,
    last,
    retry: (jobId, version) => change('retry', jobId, `retry-${jobId}-${version}`),
    async stop() {
      stopping = true;
      await loop;
      while (underWay.size > 0) await Promise.all(underWay);
    },
  };
}

function bodyOf({ n, type, steps, queue, priority, orderingKey, concurrencyKey, delayMs }: Wish) {
  return {
    type,
    payload: { n, steps },
    queue,
    ...(priority ? { priority } : {}),
    ...(orderingKey ? { orderingKey } : {}),
    ...(concurrencyKey ? { concurrencyKey, concurrencyLimit: AT_ONCE } : {}),
    ...(delayMs === undefined ? {} : { runAt: new Date(Date.now() + delayMs).toISOString() }),
  };
}
