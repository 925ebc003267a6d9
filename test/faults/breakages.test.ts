import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { BREAKAGES } from './breakages.ts';

// `npm run test:faults -- --prove` takes minutes. That it still finds what it breaks takes none.
it.each(BREAKAGES)('what $name breaks is there, once', ({ edits }) => {
  for (const { file, from } of edits) {
    const code = readFileSync(join(import.meta.dirname, '..', '..', file), 'utf8');
    expect(code.split(from).length - 1, `in ${file}: ${from}`).toBe(1);
  }
});
