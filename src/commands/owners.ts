import { accountFold, isErased } from '../domain/accounts.ts';
import { type AccountId, parseStreamId } from '../domain/ids.ts';
import type { EventStore } from '../eventstore/types.ts';

/**
 * Whether the account whose events these would be was erased: asked close to the commit by what needs no key, as whoever made the
 * request was somebody when it came in. What is nobody's, and what is no account's, was not.
 */
export async function ownerIsErased(
  { store }: { readonly store: Pick<EventStore, 'load'> },
  owner: string | undefined,
): Promise<boolean> {
  const account: AccountId | undefined = owner === undefined ? undefined : parseStreamId(owner, 'acc');
  return account !== undefined && isErased((await store.load(account, accountFold)).state);
}
