import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Of the innermost: deep recursion differs in its depth. */
const FRAMES = 8;
/** What calls handlers, here and in a process of their own. */
const CALLERS = /^src\/consumers\/(?:define-job|perform|in-process|child)\.ts$/;
const FRAME = /^\s+at (?:(.*) \()?(?:file:\/\/)?([^()]+?)(?::\d+){0,2}\)?$/;

/**
 * Sixteen hex digits that are the same for failures of one kind at one place: a hash of the error's name and code and of
 * its stack's functions and files. Lines and columns are left out, so that an edit above the place changes nothing,
 * and so is where the installation lies. Messages count, without what may be an id or a number, only where there is no
 * frame of our own to tell failures apart.
 */
export function fingerprint(error: {
  readonly name: string;
  readonly message: string;
  readonly code?: string | undefined;
  readonly stack?: string | undefined;
}): string {
  const places = framesOf(error.stack ?? '');
  const where = places.length > 0 ? places : [withoutIds(error.message)];
  const text = [error.name, error.code ?? '', ...where].join('\n');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function framesOf(stack: string): string[] {
  return stack
    .split('\n')
    .flatMap((line) => {
      const [, called = '', file = ''] = FRAME.exec(line) ?? [];
      const ours = file.startsWith(ROOT) ? file.slice(ROOT.length) : '';
      return ours && !ours.startsWith('node_modules') && !CALLERS.test(ours) ? [`${called} ${ours}`] : [];
    })
    .slice(0, FRAMES);
}

/** Quoted texts, numbers, and words that hold a digit: ids of whatever kind. */
function withoutIds(message: string): string {
  return message.replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '…').replace(/[\w-]*\d[\w-]*/g, '…');
}
