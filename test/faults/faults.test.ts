import { expect, it } from 'vitest';
import { runRound } from './round.ts';

/** Ten kinds of faults in 22 s, zombies, a rebuild and a killed Redis among them. */
const SEED = 1089;

// `npm run test:faults` runs the same for as long as one likes; docs/reliability.md has what came of it.
it('nothing acknowledged is lost, nothing is accepted twice, out of order or from a stale owner, whatever fails', async () => {
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  const result = await runRound({ seed: SEED, stormMs: 22_000, rate: 20, say });
  expect(result.violations, lines.join('\n')).toEqual([]);
  // A storm in which nothing happened would prove nothing.
  expect(result.faults).toBeGreaterThan(8);
  expect(result.jobs).toBeGreaterThan(200);
}, 300_000);
