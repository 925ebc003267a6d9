import { type StreamId, streamId } from '../domain/ids.ts';
import type { CommandDeps } from './handle.ts';

/** Email is unique whatever its case and the way its characters are composed. */
export function normalizeEmail(email: string): string {
  return email.trim().normalize('NFC').toLowerCase();
}

/** The stream named after an email: found by its HMAC, so that the email itself is in no key and no id. */
export function emailStream(deps: Pick<CommandDeps, 'hmac' | 'store'>, email: string): StreamId {
  const name = deps.hmac('email', normalizeEmail(email));
  return streamId('email', Number.parseInt(name.slice(0, 8), 16) % deps.store.partitions, name.slice(0, 40));
}
