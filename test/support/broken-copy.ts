import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..', '..');
const PARTS = [
  'src',
  'test',
  'migrations',
  'deploy',
  'docs',
  'package.json',
  'tsconfig.json',
  'vitest.config.ts',
];

/** One thing to be broken on purpose: `from` must be in the file exactly once. */
export type Edit = { readonly file: string; readonly from: string; readonly to: string };

/** A copy of the code, to be broken. */
export type BrokenCopy = {
  readonly dir: string;
  /** Breaks it; the function that is returned makes it whole again. Throws where an edit does not fit any more. */
  readonly apply: (edits: readonly Edit[]) => () => void;
  readonly remove: () => void;
};

export function copyToBreak(): BrokenCopy {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-broken-'));
  for (const part of PARTS) cpSync(join(ROOT, part), join(dir, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
  return {
    dir,
    apply(edits) {
      const before = new Map(edits.map(({ file }) => [file, readFileSync(join(dir, file), 'utf8')]));
      const after = new Map(before);
      for (const { file, from, to } of edits) {
        const text = after.get(file) ?? '';
        if (occurrences(text, from) !== 1) {
          throw new Error(`${file} has changed: what is to be broken is not there once`);
        }
        after.set(
          file,
          text.replace(from, () => to),
        );
      }
      for (const [file, text] of after) writeFileSync(join(dir, file), text);
      return () => {
        for (const [file, text] of before) writeFileSync(join(dir, file), text);
      };
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** How often the code, as it is, holds what an edit breaks. */
export function found({ file, from }: Edit): number {
  return occurrences(readFileSync(join(ROOT, file), 'utf8'), from);
}

function occurrences(text: string, part: string): number {
  return text.split(part).length - 1;
}
