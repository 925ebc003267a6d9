import { expect, it } from 'vitest';
import { runRound } from './round.ts';

// `npm run test:faults` runs the same for as long as one likes; docs/reliability.md has what came of it.
it('nothing acknowledged is lost, nothing is accepted twice, out of order or from a stale owner, whatever fails', async () => {
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  const result = await runRound({ seed: 1, stormMs: 20_000, rate: 25, say });
  expect(result.violations, lines.join('\n')).toEqual([]);
  // A storm in which nothing happened would prove nothing.
  expect(result.faults).toBeGreaterThan(5);
  expect(result.jobs).toBeGreaterThan(200);
}, 240_000);
