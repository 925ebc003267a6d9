import { createHmacs } from '../access/signing.ts';
import type { Config } from '../config.ts';
import { createNotifier } from '../consumers/notifier.ts';
import type { Reactor } from '../consumers/reactor.ts';
import { hexHmac } from './write-side.ts';

/** All reactors of this code. */
export function reactorsOf({ HMAC_KEY }: Pick<Config, 'HMAC_KEY'>): readonly Reactor[] {
  return [createNotifier(hexHmac(createHmacs(HMAC_KEY)))];
}
