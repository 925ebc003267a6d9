import type { Redis } from 'ioredis';

/**
 * Topics of hints, published on the channel `<prefix>:<topic>`. A hint only makes somebody look sooner: it may
 * get lost, and whoever waits for one looks by himself after a while.
 *
 * - `members`: `<role>`; somebody came or went
 * - `leases`: `<group> <partition>`; a lease was released
 * - `timers`: `<partition> <due, ms since 1970>`; a timer was set
 * - `ticks`: `<partition> <due, ms since 1970>`; a schedule was made
 * - `cancels`: `<job id>`; a running job is to end
 * - `slots`: `<job id>`; a job that waited for a slot of a concurrency limit was granted one
 * - `queues`: `<queue>`; it was paused, or resumed
 * - `groups`: `<group>`; an ordered group was paused, resumed, or put elsewhere
 * - `checkpoints`: `<group> <partition> <epoch> <seq>`; an ordered group's transaction was committed
 */
export type HintTopic =
  | 'members'
  | 'leases'
  | 'timers'
  | 'ticks'
  | 'cancels'
  | 'queues'
  | 'groups'
  | 'slots'
  | 'checkpoints';

export type Hints = {
  /** Never throws and is not waited for. */
  publish(topic: HintTopic, text: string): void;
  /** @returns a function that ends it */
  on(topic: HintTopic, listener: (text: string) => void): () => void;
  close(): void;
};

/** For who has something to tell and nothing to hear. Never throws and is not waited for. */
export function publishHint(publisher: Redis, prefix: string, topic: HintTopic, text: string): void {
  publisher.publish(`${prefix}:${topic}`, text).catch(() => {});
}

/**
 * @param connections.publisher any connection for commands
 * @param connections.subscriber a connection of its own, closed by `close`
 */
export async function openHints(
  connections: { readonly publisher: Redis; readonly subscriber: Redis },
  prefix: string,
  topics: readonly HintTopic[],
): Promise<Hints> {
  const { publisher, subscriber } = connections;
  const listeners = new Map<string, Set<(text: string) => void>>();
  const channel = (topic: HintTopic) => `${prefix}:${topic}`;
  subscriber.on('message', (from: string, text: string) => {
    for (const listener of listeners.get(from) ?? []) listener(text);
  });
  if (topics.length > 0) await subscriber.subscribe(...topics.map(channel));
  return {
    publish: (topic, text) => publishHint(publisher, prefix, topic, text),
    on(topic, listener) {
      const set = listeners.get(channel(topic)) ?? new Set();
      listeners.set(channel(topic), set.add(listener));
      return () => set.delete(listener);
    },
    close() {
      listeners.clear();
      subscriber.disconnect();
    },
  };
}
