import type { Db } from '../../app/base.ts';
import type { Sealing } from '../../app/sealing.ts';
import type { LetterView } from '../../projections/dead-letters/queries.ts';
import { countWaiting } from '../../projections/jobs/queries.ts';

/** A dead letter, and how many jobs wait behind it by its ordering key. */
export type ShownLetter = Omit<LetterView, 'lane'> & { readonly waiting: number };

export async function shownLetters(
  db: Db,
  letters: readonly LetterView[],
  opened: Sealing['opened'],
): Promise<ShownLetter[]> {
  const lanes = letters.flatMap(({ status, lane }) => (status === 'dead' && lane ? [lane] : []));
  const waiting = await countWaiting(db, lanes);
  const open = await Promise.all(letters.map((letter) => opened(letter.owner, letter)));
  return open.map(({ lane, ...letter }) => ({ ...letter, waiting: waiting.get(lane ?? '') ?? 0 }));
}
