// npm run test:rules: takes rules out of a copy of the code, and shows that their tests fail then.
import { join } from 'node:path';
import { withNode24 } from './node.mjs';
import { ROOT } from './paths.mjs';
import { runCommand } from './say.mjs';
import { setUp } from './set-up.mjs';

await runCommand(async () => {
  const args = process.argv.slice(2);
  const toolchain = await setUp({ redis: !args.includes('--help'), quiet: true });
  return withNode24(toolchain, [join(ROOT, 'test', 'rules', 'main.ts'), ...args], { ...process.env }, ROOT);
});
