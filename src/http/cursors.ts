import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { type Hmac, readSigned, signText } from '../access/signing.ts';
import { formatPosition, type Position, parsePosition } from '../domain/position.ts';
import type { Before } from '../projections/listing.ts';
import { invalid } from './problems.ts';

const validator = Compile(Type.Object({ createdAt: Type.String(), id: Type.String() }));

/**
 * Cursors are opaque and signed: clients can neither build one nor come to depend on what is in it.
 * @param list names the list, so that one list's cursor is none of another's
 */
export function writeCursor(hmac: Hmac, list: string, { createdAt, id }: Before): string {
  return signText(hmac, `cursor ${list}`, JSON.stringify({ createdAt, id }));
}

/** Throws a `Problem` unless it is a cursor of this list. */
export function readCursor(hmac: Hmac, list: string, cursor: string | undefined): Before | undefined {
  if (cursor === undefined) return undefined;
  const text = readSigned(hmac, `cursor ${list}`, cursor);
  const before: unknown = text === undefined ? undefined : JSON.parse(text);
  if (!validator.Check(before)) throw invalid('cursor', 'is not a cursor of this list');
  return before;
}

/** A cursor into one stream's events. @param list names the list and the stream */
export function writeVersionCursor(hmac: Hmac, list: string, version: number): string {
  return signText(hmac, `cursor ${list}`, String(version));
}

/** The version that the page before ended with; 0 without a cursor. Throws a `Problem`. */
export function readVersionCursor(hmac: Hmac, list: string, cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  const version = Number(readSigned(hmac, `cursor ${list}`, cursor));
  if (!Number.isInteger(version)) throw invalid('cursor', 'is not a cursor of this list');
  return version;
}

/** A cursor into a list of events by position. */
export function writePositionCursor(hmac: Hmac, list: string, position: Position): string {
  return signText(hmac, `cursor ${list}`, formatPosition(position));
}

/** Throws a `Problem` unless it is a cursor of this list. */
export function readPositionCursor(
  hmac: Hmac,
  list: string,
  cursor: string | undefined,
): Position | undefined {
  if (cursor === undefined) return undefined;
  const position = parsePosition(readSigned(hmac, `cursor ${list}`, cursor) ?? '');
  if (!position) throw invalid('cursor', 'is not a cursor of this list');
  return position;
}

/** The same request with another cursor, for `Link: <…>; rel="next"`. */
export function nextLink(url: string, cursor: string): string {
  const [path = '', query = ''] = url.split('?');
  const parameters = new URLSearchParams(query);
  parameters.set('cursor', cursor);
  return `<${path}?${parameters}>; rel="next"`;
}
