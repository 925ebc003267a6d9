import { expect, it } from 'vitest';
import { found } from '../support/broken-copy.ts';
import { BREAKAGES } from './breakages.ts';

// `npm run test:faults -- --prove` takes minutes. That it still finds what it breaks takes none.
it.each(BREAKAGES)('what $name breaks is there, once', ({ edits }) => {
  for (const edit of edits) expect(found(edit), `in ${edit.file}: ${edit.from}`).toBe(1);
});
