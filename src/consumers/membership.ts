import type { Redis } from 'ioredis';
import { runScript } from '../eventstore/connections.ts';
import type { Hints } from './hints.ts';
import { readScript } from './scripts.ts';

const script = readScript(import.meta.url, './members.lua');

const HEARTBEAT_MS = 3_000;
/** Three heartbeats missed. */
const DEAD_AFTER_MS = 3 * HEARTBEAT_MS;

export type Membership = {
  /** `<instanceId>#<nonce>`. */
  readonly member: string;
  /** Members of the role that were heard of lately; this one among them unless it has left. */
  alive(): Promise<string[]>;
  /** Leaves at once, so that others take over without waiting for the silence. */
  leave(): Promise<void>;
};

/**
 * Joins the members of a role and goes on saying so every 3 s; after 9 s of silence a member counts as dead.
 * Predecessors of the same instance id are removed. Membership only says who *should* own what: what is owned
 * is said by leases.
 *
 * @param deps.onError a heartbeat failed; the next one is tried all the same
 */
export async function joinMembers(deps: {
  readonly redis: Redis;
  readonly prefix: string;
  readonly role: string;
  readonly member: string;
  readonly hints: Hints;
  readonly onError: (error: unknown) => void;
}): Promise<Membership> {
  const { redis, role, member, hints } = deps;
  const key = `${deps.prefix}:members:${role}`;
  const run = async (mode: 'join' | 'beat' | 'look' | 'leave') =>
    asStrings(await runScript(redis, script, [key], [member, DEAD_AFTER_MS, mode]));

  await run('join');
  hints.publish('members', role);
  const timer = setInterval(() => run('beat').catch(deps.onError), HEARTBEAT_MS);
  return {
    member,
    alive: () => run('look'),
    async leave() {
      clearInterval(timer);
      await run('leave');
      hints.publish('members', role);
    },
  };
}

function asStrings(reply: unknown): string[] {
  if (!Array.isArray(reply)) throw new Error('members.lua answered no list');
  return reply.map(String);
}
