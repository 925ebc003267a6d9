import { Type } from 'typebox';
import { type Hmac, readSigned, signText } from '../../access/signing.ts';
import { formatPlaces, type Places, parsePlaces } from '../../domain/feed.ts';
import { invalid } from '../problems.ts';

const LONGEST = 12_000;

/** Of a thousand partitions it is long. */
export const FeedCursor = Type.String({
  maxLength: LONGEST,
  description: 'From `nextCursor` of the page before.',
});
export const FeedEventId = Type.Optional(
  Type.String({ maxLength: LONGEST, description: 'As Last-Event-ID.' }),
);

/** Cursors of the list and ids of the live stream are the same: where one ends, the other can go on. */
export function writePlaces(hmac: Hmac, places: Places): string {
  return signText(hmac, 'places in all events', formatPlaces(places));
}

/** Undefined: none of ours. */
export function readPlaces(hmac: Hmac, partitions: number, signed: string): Places | undefined {
  const text = readSigned(hmac, 'places in all events', signed);
  return text === undefined ? undefined : parsePlaces(text, partitions);
}

/** Throws a `Problem` unless it is a cursor of ours. */
export function placesOf(hmac: Hmac, partitions: number, cursor: string): Places {
  const places = readPlaces(hmac, partitions, cursor);
  if (!places) throw invalid('cursor', 'is not a cursor of this list');
  return places;
}
