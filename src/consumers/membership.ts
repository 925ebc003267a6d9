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
  /** Members of the role that were heard of lately, each with its groups; this one among them unless it has left. */
  alive(): Promise<ReadonlyMap<string, ReadonlySet<string>>>;
  /** Says at once which groups this one has, where they have changed. */
  announce(): Promise<void>;
  /** Leaves at once, so that others take over without waiting for the silence. */
  leave(): Promise<void>;
};

/** Keys of a role's members, in one slot. */
export function memberKeys(prefix: string, role: string): [members: string, groups: string] {
  const key = `${prefix}:members:{${role}}`;
  return [key, `${key}:groups`];
}

/**
 * Joins the members of a role and goes on saying so every 3 s; after 9 s of silence a member counts as dead.
 * Predecessors of the same instance id are removed. Membership only says who *should* own what: what is owned
 * is said by leases. Each says which groups its code has: processes of two versions run side by side in a deploy.
 *
 * @param deps.groups names of the groups that this member can run, or reads, now
 * @param deps.onError a heartbeat failed; the next one is tried all the same
 */
export async function joinMembers(deps: {
  readonly redis: Redis;
  readonly prefix: string;
  readonly role: string;
  readonly member: string;
  readonly hints: Pick<Hints, 'publish'>;
  readonly groups: () => readonly string[];
  readonly onError: (error: unknown) => void;
}): Promise<Membership> {
  const { redis, role, member, hints } = deps;
  const keys = memberKeys(deps.prefix, role);
  const run = async (mode: 'join' | 'beat' | 'look' | 'leave') => {
    const groups = deps.groups().join(' ');
    return asMembers(await runScript(redis, script, keys, [member, DEAD_AFTER_MS, mode, groups]));
  };

  await run('join');
  hints.publish('members', role);
  let left = false;
  const timer = setInterval(() => run('beat').catch(deps.onError), HEARTBEAT_MS);
  return {
    member,
    alive: () => run('look'),
    async announce() {
      // It would be waited for where it does not come back, until it counts as dead.
      if (left) return;
      await run('beat');
      hints.publish('members', role);
    },
    async leave() {
      left = true;
      clearInterval(timer);
      await run('leave');
      hints.publish('members', role);
    },
  };
}

/** Who is alive, for who is no member. */
export async function aliveMembers(
  redis: Redis,
  prefix: string,
  role: string,
): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  return asMembers(await runScript(redis, script, memberKeys(prefix, role), ['', DEAD_AFTER_MS, 'look', '']));
}

function asMembers(reply: unknown): Map<string, ReadonlySet<string>> {
  if (!Array.isArray(reply)) throw new Error('members.lua answered no list');
  const members = new Map<string, ReadonlySet<string>>();
  for (let at = 0; at < reply.length; at += 2) {
    members.set(String(reply[at]), new Set(String(reply[at + 1]).split(' ')));
  }
  return members;
}
