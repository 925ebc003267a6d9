import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '');

/** What this installation has made for itself: servers' data, keys, logs, a Node of its own. */
export const HOME = join(ROOT, '.millrace');

/** Each file here is the only place that knows its name. */
export const files = {
  environment: join(HOME, 'env'),
  installation: join(HOME, 'installation.json'),
  login: join(HOME, 'login.json'),
  firstStart: join(HOME, 'first-start.json'),
  redis: join(HOME, 'redis'),
  postgres: join(HOME, 'postgres'),
  blobs: join(HOME, 'blobs'),
  logs: join(HOME, 'logs'),
  node: join(HOME, 'node'),
  compileCache: join(HOME, 'compile-cache'),
};
