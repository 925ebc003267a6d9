import { randomFillSync } from 'node:crypto';

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Letters and digits; those few bytes that would favour some of them are left out. */
export function randomText(length: number): string {
  const text = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; ) {
    const byte = nextRandomByte();
    if (byte < 248) text[at++] = LETTERS.charCodeAt(byte % 62);
  }
  return text.toString('latin1');
}

/** Randomness is asked for in pieces of 4 KiB: a call for each id costs more than the id. */
const randomPool = Buffer.alloc(4096);

let randomUsed = randomPool.length;

function nextRandomByte(): number {
  if (randomUsed === randomPool.length) {
    randomFillSync(randomPool);
    randomUsed = 0;
  }
  return randomPool.readUInt8(randomUsed++);
}
