import type { Routes } from '../types.ts';
import { type FeedReadDeps, feedRoutes } from './feed.ts';
import { type StreamDeps, streamRoutes } from './stream.ts';

/** All that ever happened, for operators: of everything, or of one stream; as lists, or live. */
export function eventRoutes(deps: FeedReadDeps & StreamDeps): Routes {
  return (app) => {
    feedRoutes(app, deps);
    streamRoutes(app, deps);
  };
}
