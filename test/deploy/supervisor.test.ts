import { expect, test } from 'vitest';
import { supervisor } from '../../deploy/local/supervisor.mjs';

type Parts = ReturnType<typeof supervisor>;
type Role = Parameters<Parts['addRole']>[0];
type Server = Parameters<Parts['addServer']>[1];

/** A system whose parts write down what happens to them. */
function system(shutdownSeconds = 20) {
  const story: string[] = [];
  const parts = supervisor((line) => story.push(line), shutdownSeconds);
  const role = (name: Role['name'], leaves: (signal: string) => string | undefined) => {
    let end: (how: string) => void = () => {};
    const exited = new Promise<string>((resolve) => (end = resolve));
    let gone = false;
    const finish = (how: string) => {
      gone = true;
      story.push(`${name} leaves`);
      end(how);
    };
    parts.addRole({
      name,
      pid: 0,
      managementUrl: '',
      log: '/nowhere',
      exited,
      hasExited: () => gone,
      signal(signal) {
        const how = leaves(signal);
        if (how !== undefined) setTimeout(() => finish(how), 20);
      },
    });
    return { finish };
  };
  const server = (name: string) => {
    let crash: (how: string) => void = () => {};
    const exited = new Promise<string>((resolve) => (crash = resolve));
    const stop = async () => {
      story.push(`${name} stops`);
      crash('exit code 0');
    };
    const about: Server = { url: '', port: 0, pid: 0, dir: '', log: '/nowhere', exited, stop, kill: stop };
    parts.addServer(name, about);
    return { crash };
  };
  return { parts, role, server, story };
}

test('roles drain before the servers stop', async () => {
  const { parts, role, server, story } = system();
  server('Redis');
  role('api', () => 'exit code 0');
  role('workers', () => 'exit code 0');
  await parts.stop();
  expect(story).toEqual(['api leaves', 'workers leaves', 'Redis stops']);
});

test('a role that does not leave in time is killed, and that is said', async () => {
  const { parts, role, server, story } = system(-4.95); // seconds to drain, beside five of grace
  server('Redis');
  role('workers', (signal) => (signal === 'SIGKILL' ? 'killed by SIGKILL' : undefined));
  await parts.stop();
  expect(story[0]).toMatch(/^workers did not leave within [\d.]+ s: killed$/);
  expect(story.at(-1)).toBe('Redis stops');
});

test('a part that ends unasked is named, whichever it is', async () => {
  const first = system();
  first.role('projectors', () => 'exit code 0').finish('exit code 3');
  expect(await first.parts.crashed).toContain('projectors ended (exit code 3)');
  const second = system();
  second.server('Postgres').crash('killed by SIGKILL');
  expect(await second.parts.crashed).toContain('Postgres ended (killed by SIGKILL)');
});

test('parts that end because they were asked to are no crash', async () => {
  const { parts, role, server, story } = system();
  server('Redis');
  role('api', () => 'killed by SIGINT');
  await parts.stop();
  const crash = await Promise.race([
    parts.crashed,
    new Promise((resolve) => setTimeout(resolve, 50, 'none')),
  ]);
  expect(crash).toBe('none');
  expect(story).toEqual(['api leaves', 'Redis stops']);
});
