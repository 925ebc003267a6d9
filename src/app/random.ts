import { randomBytes } from 'node:crypto';

const LETTERS = Buffer.from('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz', 'latin1');
const AT_ONCE = 4_096;

/** Made ahead: asking for randomness costs more than an id, and a part of a text less than a text of its own. */
let ahead = '';

let used = 0;

/** Letters and digits, each as likely as any other; never the same ones twice. */
export function randomText(length: number): string {
  if (used + length > ahead.length) {
    ahead = letters(Math.max(AT_ONCE, 2 * length));
    used = 0;
  }
  used += length;
  return ahead.slice(used - length, used);
}

/** At least seven eighths of `bytes`, but for once in more tries than there will ever be. */
function letters(bytes: number): string {
  const random = randomBytes(bytes);
  let length = 0;
  for (let at = 0; at < bytes; at++) {
    const byte = random[at] as number;
    // Those few bytes that would favour some letters are left out.
    if (byte < 248) random[length++] = LETTERS[byte % 62] as number;
  }
  return random.toString('latin1', 0, length);
}
