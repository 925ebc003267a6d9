import { readFileSync } from 'node:fs';
import { type Script, script } from '../eventstore/connections.ts';

/** Reads a script that lies beside a module: `readScript(import.meta.url, './take.lua')`. */
export function readScript(base: string, file: string): Script {
  return script(readFileSync(new URL(file, base), 'utf8'));
}
