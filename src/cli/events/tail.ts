import { once } from 'node:events';
import { feedOf, openFollowing } from '../../app/following.ts';
import { firstPlaces } from '../../domain/feed.ts';
import { placesNow } from '../../eventstore/feed/places.ts';
import { withInstallation } from '../installation.ts';
import { eventLines, type FilterOptions, filterOf } from './lines.ts';

const IDLE_MS = 3_600_000;

/** `millrace events tail`: until SIGINT or SIGTERM. */
export async function tailEvents(options: FilterOptions & { readonly json?: boolean }): Promise<void> {
  const ended = new AbortController();
  void Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]).then(() => ended.abort());
  await withInstallation(async (side, base) => {
    const filter = filterOf(options);
    const because = side.store.fencedBecause();
    if (because !== undefined)
      console.error(`Commits are stopped, so there may be nothing to follow: ${because}`);
    const after = filter.from ? firstPlaces(side.store.keys.length) : await placesNow(feedOf(side));
    const following = openFollowing(base, side, 'cli');
    const draw = eventLines(options.json);
    const steps = following.followFeed({ after, filter, idleMs: IDLE_MS, signal: ended.signal });
    try {
      for await (const step of steps) {
        if (step.kind === 'events') draw(step.events.map(({ event }) => event));
        if (step.kind !== 'resync') continue;
        for (const { partition, from, to } of step.lost) {
          console.error(`Lost with Redis: events ${from} to ${to} of partition ${partition}.`);
        }
      }
    } finally {
      following.close();
    }
  });
}
