import { spawn } from 'node:child_process';
import { copyToBreak } from '../support/broken-copy.ts';
import { BREAKAGES, type Breakage } from './breakages.ts';

const STORM_SECONDS = 25;
/** What a breakage lets happen needs the right moment, which a storm may not have. */
const MOST_STORMS = 3;
const NEXT_SEED = 100;

/**
 * Breaks a copy of the code in each way, runs the suite on it, and says what was counted: with up to three seeds, until one
 * shows it.
 * @param names of some of them; absent: all
 * @returns whether each was caught
 */
export async function prove(
  names: readonly string[] | undefined,
  say: (line: string) => void,
): Promise<boolean> {
  const chosen = BREAKAGES.filter((each) => names === undefined || names.includes(each.name));
  let caught = 0;
  for (const breakage of chosen) {
    let isShown = false;
    for (let storm = 0; storm < MOST_STORMS && !isShown; storm++) {
      const seed = breakage.seed + storm * NEXT_SEED;
      const counts = await countsOf(breakage, seed);
      const found = Object.entries(counts).filter(([, times]) => times > 0);
      isShown = breakage.shownBy.some((count) => (counts[count] ?? 0) > 0);
      say(`${isShown ? 'caught    ' : 'NOT CAUGHT'}  ${breakage.name}, seed ${seed}: ${breakage.what}`);
      say(
        `            ${found.map(([count, times]) => `${count} ${times}`).join(', ') || 'nothing was counted'}`,
      );
    }
    if (isShown) caught++;
  }
  say(`${caught} of ${chosen.length} caught`);
  return chosen.length > 0 && caught === chosen.length;
}

async function countsOf(breakage: Breakage, seed: number): Promise<Record<string, number>> {
  const copy = copyToBreak();
  try {
    copy.apply(breakage.edits);
    const args = ['--json', '--fsync', 'always', '--minutes', '0.01'];
    const own = ['--seed', String(seed), '--storm', String(STORM_SECONDS)];
    const said = await run(copy.dir, [...args, ...own, '--faults', breakage.faults.join(',')]);
    if (said === '') throw new Error(`the suite did not run on the code with ${breakage.name}`);
    const result: { counts: Record<string, number> } = JSON.parse(said);
    return result.counts;
  } finally {
    copy.remove();
  }
}

function run(cwd: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, ['test/faults/main.ts', ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  return new Promise((resolve) => child.once('close', () => resolve(said)));
}
