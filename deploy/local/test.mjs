// npm test: set-up, types, lint, then every test, against servers that the tests start for themselves.
import { runCommand } from './say.mjs';
import { setUp } from './set-up.mjs';
import { lint, runTools, tests, types } from './tools.mjs';

const USAGE = `npm test -- [vitest's arguments]

Sets the checkout up, checks types and lint, and runs the tests against real servers on free ports.
  npm test -- test/eventstore        the tests below a folder
  npm test -- -t "kept over"         the tests whose name holds this
npm run check is types, lint and architecture alone.`;

await runCommand(async () => {
  const args = process.argv.slice(2);
  if (args.includes('--help')) {
    console.log(USAGE);
    return 0;
  }
  const toolchain = await setUp({ redis: true });
  return runTools(toolchain, [types, lint, tests(args)]);
});
