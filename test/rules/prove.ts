import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removePostgres, startPostgres, startRedis } from '../../deploy/local/servers.mjs';
import { type BrokenCopy, copyToBreak } from '../support/broken-copy.ts';
import type { Rule } from './rules.ts';

/** What came of a test on the code that lacks its rule: it must fail, and must have been run. */
export type Proof = { readonly rule: string; readonly outcome: 'fails' | 'passes' | 'not run' };

/** Takes each rule out of a copy of the code, and runs the test that is there for it. */
export async function prove(rules: readonly Rule[], say: (proof: Proof) => void): Promise<readonly Proof[]> {
  const proofs: Proof[] = [];
  const copy = copyToBreak();
  try {
    await withServers(async (env) => {
      for (const rule of rules) {
        const whole = copy.apply(rule.without);
        const proof = { rule: rule.rule, outcome: await outcomeOf(copy, rule, env) };
        whole();
        proofs.push(proof);
        say(proof);
      }
    });
  } finally {
    copy.remove();
  }
  return proofs;
}

/** Servers that the tests share; the set-up of each would start its own. */
async function withServers(work: (env: Record<string, string>) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-rules-'));
  const home = join(dir, 'postgres');
  try {
    const redis = await startRedis({ dir: join(dir, 'redis'), appendonly: 'no' });
    const postgres = await startPostgres({ dir: home, extra: ['fsync=off', 'synchronous_commit=off'] });
    await work({ TEST_REDIS_URL: redis.url, TEST_DATABASE_URL: postgres.url }).finally(() =>
      Promise.all([redis.stop(), postgres.stop()]),
    );
  } finally {
    await removePostgres(home);
    await rm(dir, { recursive: true, force: true });
  }
}

async function outcomeOf(
  { dir }: BrokenCopy,
  { test }: Rule,
  env: Record<string, string>,
): Promise<Proof['outcome']> {
  const report = join(dir, 'report.json');
  await rm(report, { force: true });
  const name = test.name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const args = ['run', test.file, '-t', name, '--reporter=json', `--outputFile=${report}`];
  const child = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', ...args], {
    cwd: dir,
    env: { ...process.env, ...env },
    stdio: 'ignore',
  });
  await new Promise((resolve) => child.once('close', resolve));
  const text = await readFile(report, 'utf8').catch(() => '{"testResults":[]}');
  const { testResults }: { testResults: { assertionResults: { status: string }[] }[] } = JSON.parse(text);
  const statuses = testResults.flatMap(({ assertionResults }) =>
    assertionResults.map(({ status }) => status),
  );
  if (statuses.includes('failed')) return 'fails';
  return statuses.includes('passed') ? 'passes' : 'not run';
}
