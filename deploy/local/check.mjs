// npm run check: what takes seconds: types, lint, and who may import whom.
import { helpText, readOptions } from './options.mjs';
import { runCommand } from './say.mjs';
import { setUp } from './set-up.mjs';
import { lint, runTools, tests, types } from './tools.mjs';

await runCommand(async () => {
  const options = readOptions(process.argv.slice(2), {});
  if (options.help) {
    console.log(
      helpText('npm run check\n\nTypes, lint and architecture, in seconds and without servers.', {}),
    );
    return 0;
  }
  process.env.TEST_SERVERS = 'none';
  const toolchain = await setUp({ redis: false });
  return runTools(toolchain, [types, lint, tests(['test/architecture.test.ts'])]);
});
