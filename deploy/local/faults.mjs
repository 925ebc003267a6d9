// npm run test:faults: whole installations under load and under faults, and a checker of what they left.
import { join } from 'node:path';
import { withNode24 } from './node.mjs';
import { ROOT } from './paths.mjs';
import { runCommand } from './say.mjs';
import { setUp } from './set-up.mjs';

await runCommand(async () => {
  const args = process.argv.slice(2);
  const toolchain = await setUp({ redis: !args.includes('--help'), quiet: true });
  return withNode24(toolchain, [join(ROOT, 'test', 'faults', 'main.ts'), ...args], { ...process.env }, ROOT);
});
