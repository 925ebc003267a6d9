// Redis in a container, where the system has none of its own. The docker command stays in the foreground and
// hands signals on, so that to us it is a server process like any other.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { findExecutable } from './executables.mjs';

const IMAGE = 'redis:7.4-alpine';

/** @returns {boolean} */
export function dockerAnswers() {
  const docker = findExecutable(['docker']);
  return (
    docker !== undefined &&
    spawnSync(docker, ['version', '--format', '{{.Server.Version}}'], { stdio: 'ignore', timeout: 5000 })
      .status === 0
  );
}

/**
 * @param {object} options
 * @param {string} options.folder
 * @param {number} options.port
 * @param {readonly string[]} options.settings redis-server's arguments, without port, bind and dir
 * @returns {{ command: string, args: string[], remove: () => void }} `remove` ends the container, if there is one
 */
export function redisInDocker({ folder, port, settings }) {
  const command = findExecutable(['docker']) ?? 'docker';
  const name = `millrace-redis-${createHash('sha256').update(folder).digest('hex').slice(0, 12)}`;
  const user = process.getuid ? ['--user', `${process.getuid()}:${process.getgid?.()}`] : [];
  return {
    command,
    args: [
      ['run', '--rm', '--name', name, '--publish', `127.0.0.1:${port}:6379`, '--volume', `${folder}:/data`],
      [...user, IMAGE, 'redis-server', '--port', '6379', '--dir', '/data', ...settings],
    ].flat(),
    remove: () => void spawnSync(command, ['rm', '--force', name], { stdio: 'ignore' }),
  };
}
