import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Of the innermost: deep recursion differs in its depth. */
const FRAMES = 8;
const FRAME =
  /^\s+at (?:(?:async )?(?:new )?(?:[^\s(]*\.)?([^\s(]+) (?:\[.*\] )?\()?(?:file:\/\/)?([^()]+?)(?::\d+){0,2}\)?$/;
/** What calls handlers, here and in a process of their own: from there on out all stacks are alike. */
const CALLERS = /^src\/consumers\/(?:define-job|perform|in-process|child|job-runner)\.ts$/;

/**
 * Sixteen hex digits that are the same for failures of one kind at one place: a hash of the error's name and code and
 * of its stack's functions and files. Lines and columns are left out, so that an edit above the place changes nothing,
 * and so are where the installation lies and what is not of it. Messages count, without what may be an id or a number,
 * only where there is no frame of our own to tell failures apart.
 */
export function fingerprint(error: {
  readonly name: string;
  readonly message: string;
  readonly code?: string | undefined;
  readonly stack?: string | undefined;
}): string {
  const places = placesOf(error.stack ?? '');
  const where = places.length > 0 ? places : [withoutIds(error.message)];
  const text = [error.name, error.code ?? '', ...where].join('\n');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/**
 * The fingerprint of a failure whose message is for its owner alone. Where nothing but the message told it apart, its name
 * does: whoever guesses a message could find it in a hash of it, also after its owner was erased.
 */
export function fingerprintForAll(failure: {
  readonly name: string;
  readonly stack?: string | undefined;
  readonly fingerprint?: string | undefined;
}): string {
  const [own = ''] = (failure.stack ?? '').split('\ncaused by: ', 1);
  const hasPlace = placesOf(own).length > 0;
  return (hasPlace && failure.fingerprint) || fingerprint({ name: failure.name, message: '' });
}

/** `<function> <file>` of each frame of our own, the innermost first. */
function placesOf(stack: string): string[] {
  const places: string[] = [];
  for (const line of stack.split('\n')) {
    const [, called = '', path = ''] = FRAME.exec(line) ?? [];
    if (!path.startsWith(ROOT)) continue;
    const file = path.slice(ROOT.length);
    if (CALLERS.test(file) || places.length === FRAMES) break;
    if (!file.startsWith('node_modules')) places.push(`${called} ${file}`);
  }
  return places;
}

/** Quoted texts, numbers, and words that hold a digit: ids of whatever kind. */
function withoutIds(message: string): string {
  return message.replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '…').replace(/[\w-]*\d[\w-]*/g, '…');
}
