import { byLane } from '../../app/settling.ts';
import { readCursor, writeCursor } from '../../http/cursors.ts';
import { type LetterPlace, listDeadLetters } from '../../projections/dead-letters/queries.ts';
import type { LetterStatus } from '../../projections/dead-letters/table.ts';
import { withReadModels } from '../installation.ts';
import { errorText } from '../output/errors.ts';
import { type ListOptions, printList } from '../output/pages.ts';
import type { Column } from '../output/table.ts';
import { shortTime } from '../output/time.ts';
import { type FilterOptions, filterOf } from './filter.ts';
import { type ShownLetter, shownLetters } from './letters.ts';

const columns: readonly Column<ShownLetter>[] = [
  { title: 'ID', of: ({ id }) => id },
  { title: 'TYPE', of: ({ type }) => type, cut: true },
  { title: 'QUEUE', of: ({ queue }) => queue ?? '' },
  {
    title: 'STATUS',
    of: ({ status }) => status,
    colour: ({ status }) => (status === 'dead' ? 'red' : 'dim'),
  },
  { title: 'DIED OF', of: ({ reason }) => reason },
  { title: 'BEHIND IT', of: ({ waiting }) => (waiting > 0 ? String(waiting) : ''), right: true },
  { title: 'ATTEMPTS', of: ({ attempts }) => String(attempts), right: true },
  { title: 'DIED (UTC)', of: ({ diedAt }) => shortTime(diedAt) },
  { title: 'FINGERPRINT', of: ({ error }) => fingerprintOf(error) ?? '', cut: true },
  { title: 'ERROR', of: ({ error }) => errorText(error), cut: true },
];

/** `millrace dead-letters ls` */
export async function listLetters(
  options: ListOptions & FilterOptions & { readonly status: LetterStatus },
): Promise<void> {
  const filter = filterOf(options);
  await withReadModels(async (db, hmac, _config, opened) => {
    const chosen = await byLane(db, hmac, filter);
    await printList<ShownLetter, LetterPlace>({
      options,
      columns,
      read: async (page) =>
        shownLetters(db, await listDeadLetters(db, { ...chosen, status: options.status, ...page }), opened),
      after: ({ diedAt, id }) => ({ diedAt, id }),
      readCursor(text) {
        const before = readCursor(hmac, 'dead letters', text);
        return before && { diedAt: before.createdAt, id: before.id };
      },
      writeCursor: ({ diedAt, id }) => writeCursor(hmac, 'dead letters', { createdAt: diedAt, id }),
    });
  });
}

export function fingerprintOf(error: unknown): string | undefined {
  const has = typeof error === 'object' && error !== null && 'fingerprint' in error;
  return has && typeof error.fingerprint === 'string' ? error.fingerprint : undefined;
}
