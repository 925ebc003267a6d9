// Redis where there is none: by apt as root on Debian and Ubuntu, else Docker, else a word on what to do.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { findExecutable } from './executables.mjs';
import { dockerAnswers } from './redis-docker.mjs';
import { Refusal } from './say.mjs';

export const REDIS_COMMANDS = /** @type {const} */ (['redis-server', 'valkey-server']);

/**
 * @param {(line: string) => void} say
 * @returns {Promise<string>} what `startRedis` is going to use
 */
export async function findOrInstallRedis(say) {
  const found = findExecutable(REDIS_COMMANDS);
  if (found) return found;
  if (process.getuid?.() === 0 && existsSync('/etc/debian_version') && findExecutable(['apt-get'])) {
    say('no redis-server on the PATH: installing it with apt-get, its system service off');
    await installByApt();
    const installed = findExecutable(REDIS_COMMANDS);
    if (installed) return installed;
  }
  if (dockerAnswers()) {
    say('no redis-server on the PATH: Redis runs in Docker');
    return 'docker';
  }
  throw new Refusal(`Redis 7 or newer is needed, and there is neither redis-server nor valkey-server on the PATH.
${advice()}
Or set REDIS_URL to a Redis that runs already.`);
}

/**
 * @param {string} [platform]
 * @param {(name: string) => boolean} [has]
 * @returns {string} one line
 */
export function advice(platform = process.platform, has = (name) => findExecutable([name]) !== undefined) {
  if (platform === 'darwin') return 'Install it: brew install redis';
  if (platform === 'win32') return 'Run Millrace inside WSL: wsl --install';
  const commands = [
    ['apt-get', 'sudo apt-get install redis-server'],
    ['dnf', 'sudo dnf install valkey || sudo dnf install redis'],
    ['yum', 'sudo yum install redis'],
    ['apk', 'apk add redis'],
    ['pacman', 'sudo pacman -S valkey'],
    ['zypper', 'sudo zypper install redis'],
    ['brew', 'brew install redis'],
  ];
  const [, command] = commands.find(([manager = '']) => has(manager)) ?? [];
  return command ? `Install it: ${command}` : 'Install it by the system’s package manager, or start Docker.';
}

const POLICY = '/usr/sbin/policy-rc.d';
const SERVICES = ['redis-server.service', 'redis.service'];

/** The package starts a service and enables it; this server is to be ours alone. */
async function installByApt() {
  const restore = forbidServices();
  try {
    const packages = ['install', '-y', '-q', '--no-install-recommends', 'redis-server'];
    // Package lists may be missing (slim images), or too old for what the mirror still has.
    if ((await apt(packages)).code !== 0) {
      await apt(['update', '-q']);
      const { code, output } = await apt(packages);
      if (code !== 0)
        throw new Refusal(
          `apt-get could not install redis-server:\n${output.trim().split('\n').slice(-5).join('\n')}`,
        );
    }
  } finally {
    restore();
  }
  for (const [tool = '', ...args] of [
    ['systemctl', 'disable', ...SERVICES],
    ['deb-systemd-helper', 'disable', 'redis-server.service'], // where systemd itself is not installed
    ['update-rc.d', 'redis-server', 'disable'],
  ]) {
    if (findExecutable([tool])) spawnSync(tool, args, { stdio: 'ignore' });
  }
}

/**
 * Debian's own way to say "start nothing while I install".
 * @returns {() => void} puts back what was there
 */
function forbidServices() {
  const kept = `${POLICY}.millrace`;
  // Ctrl-C reaches apt-get and ends it; we must live on to put the policy back.
  const stay = () => {};
  const signals = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);
  for (const signal of signals) process.on(signal, stay);
  if (existsSync(POLICY) && !readFileSync(POLICY, 'utf8').includes('# millrace')) renameSync(POLICY, kept);
  writeFileSync(POLICY, '#!/bin/sh\n# millrace\nexit 101\n');
  chmodSync(POLICY, 0o755);
  return () => {
    rmSync(POLICY, { force: true });
    if (existsSync(kept)) renameSync(kept, POLICY);
    for (const signal of signals) process.off(signal, stay);
  };
}

/**
 * @param {readonly string[]} args
 * @returns {Promise<{ code: number | null, output: string }>}
 */
function apt(args) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1', NEEDRESTART_MODE: 'l' };
    const child = spawn('apt-get', [...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output }));
  });
}
