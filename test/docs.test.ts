import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import packageJson from '../package.json' with { type: 'json' };
import { program } from '../src/cli/program.ts';
import { referencePages } from '../src/cli/reference.ts';

const root = join(import.meta.dirname, '..');
const read = (file: string) => readFile(join(root, file), 'utf8');

describe('the documents', () => {
  it('have a reference that is what `npx millrace reference` writes', async () => {
    for (const [name, page] of Object.entries(referencePages(program()))) {
      expect(await read(`docs/reference/${name}`), name).toBe(page);
    }
  });

  it('give a reason for each dependency', async () => {
    const reasons = await read('docs/dependencies.md');
    const { dependencies, devDependencies, optionalDependencies } = packageJson;
    for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
      expect(reasons, `${name} is in docs/dependencies.md`).toMatch(new RegExp(`[| ]${name}[ ,|]`));
    }
  });

  it('link to nothing that is not there', async () => {
    for (const page of ['README.md', 'CONTRIBUTING.md', 'docs/architecture.md', 'docs/concepts.md']) {
      const text = await read(page);
      for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)) {
        const file = join(page, '..', target);
        await expect(
          read(file).catch((error) => (error.code === 'EISDIR' ? '' : Promise.reject(error))),
          `${page} → ${target}`,
        ).resolves.toBeDefined();
      }
    }
  });
});
