import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a runbook says to type, after `npx millrace`, each as its arguments. */
export async function commandsOf(page: string): Promise<string[][]> {
  const text = await readFile(join(import.meta.dirname, '../../docs/runbooks', page), 'utf8');
  const blocks = [...text.matchAll(/```sh\nnpx millrace (.*)\n```/g)].map(([, command = '']) => command);
  return blocks.map((line) => (line.match(/"[^"]*"|\S+/g) ?? []).map((part) => part.replaceAll('"', '')));
}
