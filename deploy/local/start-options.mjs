import { helpText, readOptions } from './options.mjs';
import { ROLES } from './roles.mjs';
import { Refusal } from './say.mjs';

/** @type {Record<string, import('./options.mjs').Option>} */
const OPTIONS = {
  port: {
    type: 'string',
    value: 'N',
    help: 'where the API listens; 0: any free port (default: PORT, else 8080)',
  },
  host: {
    type: 'string',
    value: 'ADDRESS',
    help: 'the address it listens on (default: HOST, else 127.0.0.1)',
  },
  roles: { type: 'string', value: 'LIST', help: `of ${ROLES.join(',')} (default: all)` },
  fresh: { type: 'boolean', help: 'first removes the data, keys and logs of earlier starts' },
};

export const START_HELP = helpText(
  `npm start -- [options]

Starts Millrace and all that it needs: Node, dependencies, Redis, Postgres, then every role as a process.
With REDIS_URL or DATABASE_URL set it uses those servers, and starts none of its own in their place.
Data, keys and logs are under .millrace/. Ctrl-C stops everything.
`,
  OPTIONS,
);

/**
 * @typedef {object} StartOptions
 * @property {boolean} help
 * @property {number} port
 * @property {string} host
 * @property {import('./roles.mjs').RoleName[]} roles
 * @property {boolean} fresh
 * @property {string | undefined} redisUrl given from outside
 * @property {string | undefined} databaseUrl given from outside
 * @property {number} shutdownSeconds
 */

/**
 * @param {readonly string[]} args
 * @param {Readonly<Record<string, string | undefined>>} environment
 * @returns {StartOptions}
 */
export function readStartOptions(args, environment) {
  const options = readOptions(args, OPTIONS);
  /** @param {string} name */
  const set = (name) => environment[name] || undefined; // an empty variable is an unset one
  const redisUrl = set('REDIS_URL');
  const databaseUrl = set('DATABASE_URL');
  if (options.fresh && (redisUrl || databaseUrl)) {
    throw new Refusal(
      '--fresh removes the keys as well, and data on servers of your own could not be read without them: unset REDIS_URL and DATABASE_URL, or leave --fresh out.',
      2,
    );
  }
  return {
    help: options.help === true,
    port: readNumber('the port', String(options.port ?? set('PORT') ?? '8080'), 65_535),
    host: String(options.host ?? set('HOST') ?? '127.0.0.1'),
    roles: readRoles(options.roles),
    fresh: options.fresh === true,
    redisUrl,
    databaseUrl,
    shutdownSeconds: readNumber('SHUTDOWN_SECONDS', set('SHUTDOWN_SECONDS') ?? '20', 86_400),
  };
}

/** @param {string | boolean | undefined} list */
function readRoles(list) {
  if (typeof list !== 'string') return [...ROLES];
  const names = list.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !ROLES.some((role) => role === name));
  if (unknown !== undefined) throw new Refusal(`There is no role "${unknown}": ${ROLES.join(', ')}`, 2);
  return ROLES.filter((role) => names.includes(role));
}

/**
 * @param {string} name
 * @param {string} text
 * @param {number} most
 */
function readNumber(name, text, most) {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number > most)
    throw new Refusal(`${name} is a number from 0 to ${most}, not "${text}"`, 2);
  return number;
}
