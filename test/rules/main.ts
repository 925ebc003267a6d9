import { parseArgs } from 'node:util';
import { prove } from './prove.ts';
import { RULES } from './rules.ts';
import { tableOf } from './table.ts';

const HELP = `npm run test:rules -- [options]

Takes each rule that closes a way to lose, double or disorder something out of a copy of the code, and runs the test that
is there for it. Exits with 1 if one of these tests passes.

  --only TEXT    only the rules that hold this
  --list         the rules and their tests, as docs/reliability.md has them
  --json         a line of JSON for each rule
  --help         show this`;

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      list: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const chosen = RULES.filter(({ rule }) => rule.includes(values.only ?? ''));
  if (chosen.length === 0) {
    console.error(`no rule holds "${values.only}"; see --list`);
    return 2;
  }
  if (values.list) {
    console.log(tableOf(chosen));
    return 0;
  }
  const proofs = await prove(chosen, (proof) =>
    console.log(values.json ? JSON.stringify(proof) : `${proof.outcome.padEnd(8)} without: ${proof.rule}`),
  );
  const shown = proofs.filter(({ outcome }) => outcome === 'fails').length;
  if (!values.json) console.log(`${shown} of ${proofs.length} tests fail without their rule`);
  return shown === proofs.length ? 0 : 1;
}
