// npm run bench -- NAME: a bench against private servers, which are gone afterwards.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withNode24 } from './node.mjs';
import { ROOT } from './paths.mjs';
import { Refusal, runCommand } from './say.mjs';
import { makeSecrets } from './secrets.mjs';
import { removePostgres, startPostgres, startRedis } from './servers.mjs';
import { setUp } from './set-up.mjs';

await runCommand(async () => {
  const [name, ...args] = process.argv.slice(2);
  const usage = `npm run bench -- NAME [its arguments]

Runs bench/NAME.ts against a Redis and a Postgres of its own, or those of REDIS_URL and DATABASE_URL.
It prints JSON lines, and at the end "ratio <number> …".

What a bench measures, and its options: npm run bench -- NAME --help

Benches: ${names().join(', ') || 'none yet'}`;
  if (name === '--help') {
    console.log(usage);
    return 0;
  }
  if (name === undefined || !names().includes(name)) {
    throw new Refusal(
      `${name === undefined ? 'Which bench?' : `There is no bench "${name}".`}\n\n${usage}`,
      2,
    );
  }
  return runBench(name, args);
});

function names() {
  try {
    const found = readdirSync(join(ROOT, 'bench')).filter(
      (file) => file.endsWith('.ts') && file !== 'harness.ts',
    );
    return found.map((file) => file.slice(0, -3)).sort();
  } catch {
    return [];
  }
}

/**
 * @param {string} name
 * @param {readonly string[]} args
 */
async function runBench(name, args) {
  const given = { redis: process.env.REDIS_URL, database: process.env.DATABASE_URL };
  const toolchain = await setUp({ redis: given.redis === undefined, quiet: true });
  const script = join(ROOT, 'bench', `${name}.ts`);
  // Whether it can be understood, before anything is started for it; with --help that is all.
  const checked = await withNode24(toolchain, [script, ...args], { ...process.env, BENCH_CHECK: '1' }, ROOT);
  if (checked !== 0 || args.includes('--help') || args.includes('-h')) return checked;
  const dir = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  process.on('SIGINT', () => {}); // from here on Ctrl-C ends the bench, and we clean up behind it
  /** @type {import('./server-process.mjs').Server[]} */
  const servers = [];
  try {
    const start = async (/** @type {Promise<import('./server-process.mjs').Server>} */ starting) => {
      const server = await starting;
      servers.push(server);
      return server.url;
    };
    const REDIS_URL = given.redis ?? (await start(startRedis({ dir: join(dir, 'redis') })));
    const DATABASE_URL = given.database ?? (await start(startPostgres({ dir: join(dir, 'postgres') })));
    const environment = {
      ...makeSecrets(),
      BLOB_DIR: join(dir, 'blobs'),
      ...process.env,
      REDIS_URL,
      DATABASE_URL,
    };
    return await withNode24(toolchain, [script, ...args], environment, ROOT);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    await removePostgres(join(dir, 'postgres'));
    rmSync(dir, { recursive: true, force: true });
  }
}
