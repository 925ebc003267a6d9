// Everything that the launcher has started: notices when a part ends, and stops them in the right order.
import { lastWords } from './roles.mjs';
import { lastLines } from './server-process.mjs';

/** @typedef {import('./server-process.mjs').Server} Server */
/** @typedef {import('./roles.mjs').Role} Role */

/** A role may drain for SHUTDOWN_SECONDS; then it has this long to leave. */
const GRACE_SECONDS = 5;

/**
 * @param {(line: string) => void} say
 * @param {number} shutdownSeconds
 */
export function supervisor(say, shutdownSeconds) {
  /** @type {Server[]} */
  const servers = [];
  /** @type {Role[]} */
  const roles = [];
  let stopping = false;
  /** @type {(why: string) => void} */
  let report = () => {};
  /** @type {Promise<string>} */
  const crashed = new Promise((resolve) => {
    report = (why) => {
      if (!stopping) resolve(why);
    };
  });

  return {
    /** Settles with one line when a part ends that nobody has asked to. */
    crashed,
    roles: /** @type {readonly Role[]} */ (roles),
    /**
     * @template {Server} S
     * @param {string} name
     * @param {S} server
     * @returns {S}
     */
    addServer(name, server) {
      servers.push(server);
      server.exited.then((how) => report(`${name} ended (${how}): ${lastLines(server.log)}`));
      return server;
    },
    /** @param {Role} role */
    addRole(role) {
      roles.push(role);
      role.exited.then(async () => report(await lastWords(role)));
      return role;
    },
    /** Roles drain, then our servers stop. */
    async stop() {
      stopping = true;
      await Promise.all(roles.map((role) => drain(role)));
      await Promise.all(servers.map((server) => server.stop()));
    },
  };

  /** @param {Role} role */
  async function drain(role) {
    if (role.hasExited()) return;
    role.signal('SIGTERM');
    const late = setTimeout(
      () => {
        say(`${role.name} did not leave within ${shutdownSeconds + GRACE_SECONDS} s: killed`);
        role.signal('SIGKILL');
      },
      (shutdownSeconds + GRACE_SECONDS) * 1000,
    );
    const how = await role.exited;
    clearTimeout(late);
    // Of the signals that ask it to leave a copy may find it before its handlers are there, or after they have gone.
    if (how !== 'exit code 0' && !/SIGINT|SIGTERM/.test(how)) say(await lastWords(role));
  }
}
