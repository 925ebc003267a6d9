import { createHmac, randomInt } from 'node:crypto';
import { type LeaseTiming, startLeaseKeeper } from '../../src/consumers/lease-keeper.ts';
import type { Connections } from '../../src/consumers/role.ts';
import { connectBlocking, connectSubscriber } from '../../src/eventstore/connections.ts';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
export const randomText = (length: number) =>
  Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');

/** With the same key in every process of a test. */
export const testHmac = (purpose: string, text: string) =>
  createHmac('sha256', 'test').update(`${purpose}\n${text}`).digest('hex');

export function connectionsTo(url: string, timing: LeaseTiming = {}): Connections {
  return {
    leaseKeeper: () => leaseKeeperOn(url, timing),
    blocking: (name, blockMs) => connectBlocking({ url, name, blockMs }),
    subscriber: (name) => connectSubscriber({ url, name }),
  };
}

/** Of a test: a renewer that dies is an error that nobody catches. */
export function leaseKeeperOn(redisUrl: string, timing: LeaseTiming = {}) {
  return startLeaseKeeper({
    redisUrl,
    timing,
    log: { level: 'fatal', role: 'test', instanceId: 'test' },
    onDeath(error) {
      throw error;
    },
  });
}
