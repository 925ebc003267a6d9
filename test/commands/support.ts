import { createHash, createHmac, randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { createPasswords } from '../../src/access/passwords.ts';
import { createPeople, masterKeys } from '../../src/access/people.ts';
import type { People } from '../../src/commands/accounts.ts';
import type { CommandContext } from '../../src/commands/handle.ts';
import type { SessionDeps } from '../../src/commands/sessions.ts';
import { randomText } from '../support/connections.ts';
import { openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

/** The write side on real servers, as the composition root builds it. */
export async function writeSide(now: () => Date = () => new Date()) {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const people = createPeople(world.db, masterKeys([randomBytes(32)]), createPasswords({ cost: 4 }));
  const key = randomBytes(32);
  const deps: SessionDeps & { people: People } = {
    store,
    now,
    randomText,
    hmac: (purpose, text) => createHmac('sha256', key).update(`${purpose}\n${text}`).digest('hex'),
    idempotencyRetentionMs: 60_000,
    awaitDurability: async () => true,
    traceCommit: (_partition, run) => run(undefined),
    people,
    passwordMatches: people.passwordMatches,
    randomSecret: () => randomBytes(32).toString('base64url'),
    sha256: (text) => createHash('sha256').update(text).digest('hex'),
    sessionLifetimeMs: 3_600_000,
  };
  return { world, store, deps };
}

export function context(idempotencyKey?: string, body = 'same'): CommandContext {
  const hash = (text: string) => createHash('sha256').update(text).digest('hex');
  return {
    actor: 'anonymous',
    correlation: 'test',
    durability: 'memory',
    ...(idempotencyKey === undefined
      ? {}
      : { idempotency: { key: hash(idempotencyKey), fingerprint: hash(body) } }),
  };
}
