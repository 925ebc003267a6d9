import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inherited } from './support/inherited.ts';

const ROOT = join(import.meta.dirname, '..');
const names = readdirSync(join(ROOT, 'bench'))
  .filter((file) => file.endsWith('.ts') && file !== 'harness.ts')
  .map((file) => file.slice(0, -3));

/** With servers that are not there, and no place for those of a bench: whoever wants either fails otherwise than we expect. */
async function run(...argv: string[]) {
  const child = spawn(process.execPath, argv, {
    cwd: ROOT,
    env: {
      ...inherited(),
      REDIS_URL: 'redis://127.0.0.1:1',
      DATABASE_URL: 'postgres://127.0.0.1:1/none',
      TMPDIR: '/nowhere',
    },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const code = await new Promise((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}
const bench = (name: string, ...args: string[]) => run(join('bench', `${name}.ts`), ...args);

test.each(names)(
  'bench %s says what it measures and takes, and what is wrong with what it is given',
  async (name) => {
    const help = await bench(name, '--help');
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(new RegExp(`^npm run bench -- ${name} \\[options\\]\n\n[A-Z].+\\.\n`));
    const [option] = /--\S+ <(count|number)>/.exec(help.stdout) ?? [];
    expect(help.stdout).toMatch(/default \d+/);
    const unknown = await bench(name, '--unheard-of');
    expect([unknown.code, unknown.stdout]).toEqual([2, '']);
    expect(unknown.stderr).toMatch(/^Unknown option '--unheard-of'/);
    const given = `${option?.split(' ')[0]}`;
    const wrong = await bench(name, given, 'many');
    expect([wrong.code, wrong.stdout]).toEqual([2, '']);
    expect(wrong.stderr).toMatch(new RegExp(`^${given} is "many", and takes a (whole )?number `));
    expect(wrong.stderr).not.toContain('    at ');
  },
);

test.each([
  ['jobs', '--only', 'Sidekiq', 'Millrace, engine'],
  ['jobs', '--rows', 'latency,nothing', 'concurrency 50'],
  ['http', '--only', 'nobody', 'plain; command; export'],
  ['jobs', '--rounds', '0', 'a whole number from 1'],
  ['commit', '--seconds', '0', 'a number above 0'],
  ['read-cache', '--concurrency', '2000', 'from 1 to 1024'],
])('npm run bench -- %s %s %s is refused before a server is started', async (name, option, value, known) => {
  const { code, stdout, stderr } = await run(join('deploy', 'local', 'bench.mjs'), name, option, value);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain(`${option} is "${value}", and takes `);
  expect(stderr).toContain(known);
});
