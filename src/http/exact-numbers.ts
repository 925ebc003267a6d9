import { escapePointer } from './failures.ts';

/** Sixteen digits in a row may be more than a double holds, an exponent of three more than it reaches. */
const SUSPECT = /\d{16}|\d[eE]\+?\d{3}/;
const NUMBER = /-?\d[\d.eE+-]*/y;

type Level = { readonly isArray: boolean; index: number; name: string; awaitsName: boolean };

/**
 * Where in a JSON text a number stands that a double cannot hold: it would be stored as another one (an integer
 * beyond 2^53) or as null (1e999), and nobody would be told. Integers written as a double writes them pass.
 *
 * @param text valid JSON
 */
export function inexactNumber(text: string): { readonly pointer: string } | undefined {
  if (!SUSPECT.test(text)) return undefined;
  const levels: Level[] = [];
  for (let at = 0; at < text.length; ) {
    const [level, sign] = [levels.at(-1), text[at]];
    if (sign === '{' || sign === '[') {
      const isArray = sign === '[';
      levels.push({ isArray, index: 0, name: '', awaitsName: !isArray });
    } else if (sign === '}' || sign === ']') levels.pop();
    else if (sign === ',' && level) {
      level.index++;
      level.awaitsName = !level.isArray;
    } else if (sign === '"') {
      const end = endOfString(text, at);
      if (level?.awaitsName) [level.name, level.awaitsName] = [text.slice(at, end), false];
      at = end;
      continue;
    } else {
      NUMBER.lastIndex = at;
      const [literal] = NUMBER.exec(text) ?? [];
      if (literal !== undefined && !isExact(literal)) return { pointer: pointerTo(levels) };
      at += literal?.length ?? 1;
      continue;
    }
    at++;
  }
  return undefined;
}

/** By hand: a regular expression needs as much stack as the string has escapes. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function isExact(literal: string): boolean {
  const number = Number(literal);
  if (!Number.isFinite(number)) return false;
  if (Number.isSafeInteger(number) || /[.eE]/.test(literal)) return true;
  return String(number) === literal || BigInt(number) === BigInt(literal);
}

function pointerTo(levels: readonly Level[]): string {
  return levels
    .map(({ isArray, index, name }) => (isArray ? String(index) : escapePointer(String(JSON.parse(name)))))
    .map((part) => `/${part.toWellFormed().replaceAll('\0', '\uFFFD').slice(0, 100)}`)
    .join('');
}
