import { follow, pause } from './backoff.ts';
import { type Ending, JobTimeoutError, normaliseError } from './normalise.ts';

/** How long a handler that was told to end may take to do so, before its job goes on without it. */
const GRACE_MS = 5_000;

/** A handler under way, in this process or in one of its own. */
export type Handling = {
  /** Never rejects. `gone`: its process ended without a word; `how` is for people to read. */
  readonly ended: Promise<Ending | { readonly kind: 'gone'; readonly how: string }>;
  /** It did not end when it was told to: nothing that it says counts any more. Resolves when all was done that can be. */
  abandon(): Promise<void>;
};

export type Performed =
  | (Ending & { readonly kind: 'returned' | 'snoozed' })
  /** `ignoredAbort`: its time was up, and it went on when it was told to end. */
  | (Ending & { readonly kind: 'failed'; readonly ignoredAbort: boolean })
  /** It ended, or was given up, because it had to: this says nothing about the job. */
  | { readonly kind: 'aborted' }
  | { readonly kind: 'gone'; readonly how: string }
  /** There was no process for it: it has not begun. */
  | { readonly kind: 'not_begun' };

/**
 * Runs a handler until it ends, its time is up or it is told to end. Never rejects.
 *
 * @param begin its signal is aborted when the handler is to end. Undefined: there was nothing to run it in
 * @param around.signal what else is to end the handler: it has a few seconds to do so
 * @param around.giveUp aborted when there is no time left to wait for it
 */
export async function perform(
  begin: (signal: AbortSignal) => Promise<Handling | undefined>,
  around: {
    readonly signal: AbortSignal;
    readonly giveUp: AbortSignal;
    readonly timeoutSeconds: number;
  },
): Promise<Performed> {
  const timeout = new AbortController();
  const { signal, stop } = follow(around.signal, timeout.signal);
  let timer: NodeJS.Timeout | undefined;
  try {
    const handling = await begin(signal);
    if (!handling) return signal.aborted ? { kind: 'aborted' } : { kind: 'not_begun' };
    timer = setTimeout(() => {
      timeout.abort(new JobTimeoutError(`the attempt took longer than ${around.timeoutSeconds} s`));
    }, around.timeoutSeconds * 1000);
    const ended = await Promise.race([handling.ended, givenUp(signal, around.giveUp)]);
    if (!ended) await handling.abandon();
    const timedOut = signal.aborted && signal.reason === timeout.signal.reason;
    if (timedOut) {
      const error = normaliseError(timeout.signal.reason);
      return { kind: 'failed', error, final: false, ignoredAbort: !ended };
    }
    if (ended?.kind === 'returned' || ended?.kind === 'snoozed') {
      // In spite of the abort, if there was one: there is no use in computing a result again.
      return ended;
    }
    if (!ended || signal.aborted) return { kind: 'aborted' };
    return ended.kind === 'failed' ? { ...ended, ignoredAbort: false } : ended;
  } finally {
    clearTimeout(timer);
    stop();
  }
}

/** Resolves when a handler that was told to end has had its time to do so. */
function givenUp(told: AbortSignal, giveUp: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    const begin = () => void pause(GRACE_MS, giveUp).then(() => resolve(undefined));
    if (told.aborted) begin();
    else told.addEventListener('abort', begin, { once: true });
  });
}
