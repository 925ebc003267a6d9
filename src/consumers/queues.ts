import { queueStream } from '../domain/ids.ts';
import { queueFold } from '../domain/queues.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { Logger } from '../telemetry/logging.ts';
import { untilAborted } from './backoff.ts';
import type { Hints } from './hints.ts';

/** A hint may be lost, so the states are looked at this often besides. */
const LOOK_EVERY_MS = 3_000;
/** Until they are known nothing is begun. */
const ASK_AGAIN_MS = 250;

/** Which queues are paused, as far as this process knows: it is told within milliseconds, or looks after seconds. */
export type PausedQueues = {
  /** True, too, of one of which nothing is known yet: it may have been paused before this process started. */
  has(queue: string): boolean;
  /** Resolves once the queue may go on, or with the signal. */
  untilResumed(queue: string, signal: AbortSignal): Promise<void>;
  close(): void;
};

type Known = {
  /** What Redis held when it was last folded: while that is the same, so is what follows from it. */
  readonly text: string | null;
  readonly paused: boolean;
};

export function watchQueues(deps: {
  readonly store: Pick<OpenEventStore, 'load' | 'reader' | 'keys'>;
  readonly queues: readonly string[];
  readonly hints: Hints;
  readonly logger: Logger;
  readonly everyMs?: number;
}): PausedQueues {
  const { queues, logger } = deps;
  const known = new Map<string, Known>();
  let changed = Promise.withResolvers<void>();
  let looking = false;
  let again = false;
  const paused = (queue: string) => known.get(queue)?.paused ?? true;

  async function look(): Promise<void> {
    if (looking) {
      // What it is about to find may be older than what the hint was about.
      again = true;
      return;
    }
    looking = true;
    do {
      again = false;
      await lookOnce(deps, known).catch((err: unknown) => {
        logger.debug({ err }, 'it is not known which queues are paused: they stay as they were');
        if (known.size < queues.length) setTimeout(() => void look(), ASK_AGAIN_MS).unref();
      });
      changed.resolve();
      changed = Promise.withResolvers();
    } while (again);
    looking = false;
  }

  const unhint = deps.hints.on('queues', () => void look());
  const timer = setInterval(() => void look(), deps.everyMs ?? LOOK_EVERY_MS).unref();
  void look();
  return {
    has: paused,
    async untilResumed(queue, signal) {
      while (paused(queue) && !signal.aborted) await untilAborted(changed.promise, signal);
    },
    close() {
      unhint();
      clearInterval(timer);
    },
  };
}

/** Folds the queues of which Redis holds something else than before; of one that was never paused it holds nothing. */
async function lookOnce(
  { store, queues, logger }: Pick<Parameters<typeof watchQueues>[0], 'store' | 'queues' | 'logger'>,
  known: Map<string, Known>,
): Promise<void> {
  const ids = queues.map(queueStream);
  const [keys] = store.keys;
  if (!keys || ids.length === 0) return;
  const texts = await store.reader.redis.mget(ids.map((id) => keys.state(id)));
  for (const [index, queue] of queues.entries()) {
    const text = texts[index] ?? null;
    const before = known.get(queue);
    if (before && before.text === text) continue;
    const { state } = await store.load(queueStream(queue), queueFold);
    const now = { text, paused: state.phase === 'paused' };
    known.set(queue, now);
    if (before && before.paused !== now.paused) logger.info({ queue, paused: now.paused }, 'queue');
  }
}
