import type { Redis } from 'ioredis';
import { checkpointChannel } from './partitions.ts';

/** Hints that a group's checkpoint may have moved in one partition. The truth is what is read after one. */
export type CheckpointWatch = {
  /**
   * Resolves on a hint that came since the last call, or at the next one; after `timeoutMs`, or when `signal`
   * is aborted, without one. Never rejects.
   */
  next(timeoutMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
};

export type WatchCheckpoints = (group: string, partition: number) => CheckpointWatch;

type Watch = { hinted: boolean; wake: (() => void) | undefined };

/**
 * Watches checkpoints by the hints that their owners publish: one subscription for all that watch in this
 * process. Hints may be lost, so whoever waits looks again after its timeout.
 * @param subscriber of `connectSubscriber`; not closed here
 */
export function createCheckpointWatches(subscriber: Redis, prefix: string): WatchCheckpoints {
  const watches = new Map<string, Set<Watch>>();
  const channel = checkpointChannel(prefix);
  subscriber.on('message', (from: string, text: string) => {
    if (from !== channel) return;
    const [group, partition] = text.split(' ');
    for (const watch of watches.get(`${group} ${partition}`) ?? []) {
      watch.hinted = true;
      watch.wake?.();
    }
  });
  subscriber.subscribe(channel).catch(() => {
    // Subscribed again by the client when Redis is back.
  });

  return (group, partition) => {
    const topic = `${group} ${partition}`;
    const watch: Watch = { hinted: false, wake: undefined };
    const others = watches.get(topic) ?? new Set();
    watches.set(topic, others.add(watch));
    return {
      next: (timeoutMs, signal) => waitForHint(watch, timeoutMs, signal),
      close() {
        others.delete(watch);
        if (others.size === 0) watches.delete(topic);
        watch.wake?.();
      },
    };
  };
}

async function waitForHint(watch: Watch, timeoutMs: number, signal: AbortSignal): Promise<void> {
  if (!watch.hinted && !signal.aborted) {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      watch.wake = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener('abort', watch.wake, { once: true });
    });
    if (watch.wake) signal.removeEventListener('abort', watch.wake);
    watch.wake = undefined;
  }
  watch.hinted = false;
}
