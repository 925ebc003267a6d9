import type { Rule } from './rules.ts';

/** The rules as docs/reliability.md lists them. */
export function tableOf(rules: readonly Rule[]): string {
  const rows = rules.map(({ rule, test }) => `| ${rule} | \`${test.file}\`: ${test.name} |`);
  return ['| rule | the test that fails without it |', '|---|---|', ...rows].join('\n');
}
