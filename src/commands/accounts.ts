import {
  accountFold,
  claimEmail,
  registerAccount as decideRegistration,
  type Email,
  emailFold,
  isErased,
  type Role,
  type Sealed,
  wasErased,
} from '../domain/accounts.ts';
import { type AccountId, partitionOf } from '../domain/ids.ts';
import type { Loaded } from '../eventstore/types.ts';
import { emailStream } from './email.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';
import { mintId, streamFor } from './mint.ts';

/** What is known about people and is never in an event: owned by `access`, handed in. */
export type People = {
  /** Makes the person's key, or finds it, and seals text with it. Needs Postgres. */
  readonly sealFor: (accountId: AccountId, texts: readonly string[]) => Promise<Sealed[]>;
  /** Hashes and stores the password. Needs Postgres. */
  readonly savePassword: (accountId: AccountId, password: string) => Promise<void>;
  /** Removes key and password of an account that never came to be. */
  readonly forget: (accountId: AccountId) => Promise<void>;
};

export type Registered = { readonly id: AccountId; readonly version: number };

/**
 * Registers a person. The key and the password's hash are stored before the commit that makes the account
 * reachable; email and account come to be in that one commit, so neither exists without the other.
 *
 * Refused with `email_taken`. Throws what `handle` throws, and what `people` throws when Postgres is away.
 */
export async function registerAccount(
  deps: CommandDeps & { readonly people: People },
  context: CommandContext,
  input: { readonly email: string; readonly password: string; readonly name: string; readonly role?: Role },
): Promise<CommandResult<Registered>> {
  const emailId = emailStream(deps, input.email);
  const partition = partitionOf(emailId);
  const minted = await mintId(deps, context, 'acc', partition);
  if (!minted.ok) return { kind: 'key_reused' };
  const accountId: AccountId = minted.id;

  // Of an account that was erased since nothing may be made again: no key, no password.
  const { state: known } = await streamFor(deps, accountId, accountFold, minted.fresh);
  if (isErased(known)) return { kind: 'refused', refusal: wasErased().refusal };
  // Cheap refusal before the costly hash; the commit decides again.
  let email: Loaded<Email> | undefined = await deps.store.load(emailId, emailFold);
  const early = claimEmail(email.state, accountId);
  if (!early.ok) return { kind: 'refused', refusal: early.refusal };

  if (early.events.length > 0) await deps.people.savePassword(accountId, input.password);
  const [sealedEmail, sealedName] = await deps.people.sealFor(accountId, [input.email.trim(), input.name]);
  if (!sealedEmail || !sealedName) throw new Error('sealing answered fewer texts than it was given');

  const own: CommandContext = {
    ...context,
    owner: accountId,
    actor: context.actor === 'anonymous' ? accountId : context.actor,
  };
  const result = await handle<Registered>(deps, own, partition, async () => {
    const loadedEmail = email ?? (await deps.store.load(emailId, emailFold));
    email = undefined;
    const claim = claimEmail(loadedEmail.state, accountId);
    if (!claim.ok) return claim;
    const account = await streamFor(deps, accountId, accountFold, minted.fresh);
    const registration = decideRegistration(account.state, {
      email: sealedEmail,
      name: sealedName,
      role: input.role ?? 'user',
    });
    if (!registration.ok) return registration;
    const at = deps.now().toISOString();
    const change = changeOf(own, at, account, accountFold, registration.events);
    return {
      ok: true,
      plan: {
        changes: [change, changeOf(own, at, { streamId: emailId, ...loadedEmail }, emailFold, claim.events)],
        body: { id: accountId, version: change.version },
      },
    };
  });
  if (result.kind === 'refused') await deps.people.forget(accountId);
  return result;
}
