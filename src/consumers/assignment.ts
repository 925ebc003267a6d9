import { createHash } from 'node:crypto';

/**
 * Who should own a partition: rendezvous hashing. Every process computes the same answer from the same
 * members, with nobody to ask; a member that comes or goes moves only its own partitions.
 *
 * By partition alone, so that all groups of a partition have one owner and may share its reader. Weighed by
 * instance id, not by the whole member name, so that a process that restarts gets its partitions back.
 *
 * @param members `<instanceId>#<nonce>`, in any order
 * @returns undefined where there is nobody
 */
export function ownerOf(partition: number, members: readonly string[]): string | undefined {
  let best: { member: string; weight: number } | undefined;
  for (const member of members) {
    const weight = weigh(partition, instanceOf(member));
    if (!best || weight > best.weight || (weight === best.weight && member > best.member)) {
      best = { member, weight };
    }
  }
  return best?.member;
}

/** `<instanceId>#<nonce>`: the nonce tells a process from its predecessors under the same instance id. */
export function memberName(instanceId: string, nonce: string): string {
  if (nonce.includes('#')) throw new Error('a nonce holds no #');
  return `${instanceId}#${nonce}`;
}

export function instanceOf(member: string): string {
  return member.slice(0, member.lastIndexOf('#'));
}

/** 48 bits: exact in a number, and two members never tie in practice. */
function weigh(partition: number, instance: string): number {
  return createHash('sha256').update(`${partition}\n${instance}`).digest().readUIntBE(0, 6);
}
