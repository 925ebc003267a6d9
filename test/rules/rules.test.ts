import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { found } from '../support/broken-copy.ts';
import { RULES } from './rules.ts';
import { tableOf } from './table.ts';

const read = (path: string) => readFileSync(join(import.meta.dirname, '..', '..', path), 'utf8');

// `npm run test:rules` takes minutes. That it still finds what it takes out, and the tests, takes none.
describe('the rules', () => {
  it.each(RULES)('are where they are taken out, once, and have their test: $rule', ({ without, test }) => {
    for (const edit of without) expect(found(edit), `in ${edit.file}: ${edit.from}`).toBe(1);
    expect(read(test.file)).toContain(test.name);
  });

  it('are listed in docs/reliability.md as they are', () => {
    expect(read('docs/reliability.md')).toContain(tableOf(RULES));
  });
});
