import { randomInt } from 'node:crypto';
import type { Connections } from '../../src/consumers/role.ts';
import { connectBlocking, connectSubscriber } from '../../src/eventstore/connections.ts';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
export const randomText = (length: number) =>
  Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');

export function connectionsTo(url: string): Connections {
  return {
    blocking: (name, blockMs) => connectBlocking({ url, name, blockMs }),
    subscriber: (name) => connectSubscriber({ url, name }),
  };
}
