import type { StreamId } from '../domain/ids.ts';
import { connectBlocking } from '../eventstore/connections.ts';
import { type FollowFeedOptions, followFeed } from '../eventstore/feed/follow.ts';
import { placesThatStand } from '../eventstore/feed/places.ts';
import { type FeedDeps, readFeed } from '../eventstore/feed/read.ts';
import { type FollowOptions, followStream } from '../eventstore/follow.ts';
import { readHistory } from '../eventstore/history.ts';
import { openLogTail, TAIL_BLOCK_MS } from '../eventstore/tail.ts';
import type { Base, Parts } from './base.ts';

/** Streams live, for all that follow one in this process: over one connection. */
export function openFollowing({ config, logger }: Base, { db, store }: Parts, name: string) {
  const { keys, reader, fence, told, archives } = store;
  const blocking = connectBlocking({
    url: config.REDIS_URL,
    name: `${name}-tail`,
    blockMs: TAIL_BLOCK_MS,
    onError: (err) => logger.debug({ err }, 'the connection that live streams read from broke'),
  });
  const tail = openLogTail({ keys, blocking, reader, fence, told });
  const read = (...rest: [StreamId, { after?: number; limit?: number }]) =>
    readHistory({ connection: reader, db, keys, fence, archives }, ...rest);
  const feed = feedOf({ db, store });
  return {
    followFeed: (options: FollowFeedOptions) =>
      followFeed(
        { tail, read: (range) => readFeed(feed, range), stand: (places) => placesThatStand(db, places) },
        options,
      ),
    follow: (id: StreamId, options: FollowOptions) => followStream({ tail, read }, id, options),
    close: tail.close,
  };
}

/** What the events of all partitions are read from. */
export function feedOf({ db, store }: Pick<Parts, 'db' | 'store'>): FeedDeps {
  const { keys, archives, reader: connection, fence } = store;
  return { db, keys, archives, log: { connection, fence } };
}
