import { randomBytes } from 'node:crypto';

/** Ids that no other process gives out: random for the process, then counted. Cheaper than random each time. */
export function createCallIds(): () => string {
  const process = randomBytes(12).toString('base64url');
  let count = 0;
  return () => `${process}-${(count++).toString(36)}`;
}
