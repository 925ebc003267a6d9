import { createHmac, randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import bcrypt from 'bcrypt';
import type { Kysely } from 'kysely';
import type { AccountId } from '../domain/ids.ts';
import { createGate } from './gate.ts';
import type { PeopleTables } from './tables.ts';

/** bcrypt reads no further; what is longer it would cut without a word. */
const BCRYPT_BYTES = 72;

export type PasswordSettings = {
  /** bcrypt's cost. 12 takes about 0.2 s; tests take 4. */
  readonly cost?: number;
  /** How many are hashed at once. Default: the number of cores, as each keeps one busy. */
  readonly concurrency?: number;
  /** How many may wait for that. */
  readonly queue?: number;
};

/**
 * Hashes and checks passwords. Both throw `TooBusyError` when too many wait already: 16 log-ins at once keep
 * two cores busy for 1.8 s, and with them every other user of the thread pool.
 */
export function createPasswords(settings: PasswordSettings = {}) {
  const { cost = 12, concurrency = availableParallelism(), queue = 32 } = settings;
  const gate = createGate(concurrency, queue);
  // Compared for accounts that don't exist, so that their answer takes as long as a wrong password's.
  const dummyHash = bcrypt.hash(randomBytes(16).toString('hex'), cost);
  return {
    hash: (password: string): Promise<string> => gate(() => bcrypt.hash(bcryptInput(password), cost)),
    /** @param hash of the account, or undefined if there is none: then false, after the same time */
    matches: (hash: string | undefined, password: string): Promise<boolean> =>
      gate(async () => {
        const same = await bcrypt.compare(bcryptInput(password), hash ?? (await dummyHash));
        return same && hash !== undefined;
      }),
  };
}
export type Passwords = ReturnType<typeof createPasswords>;

/**
 * The password, composed alike however it was typed (NFC), and beyond 72 bytes its digest. The digest is
 * keyed by a text of our own, so that hashes known from elsewhere are no passwords here; base64 has no zero
 * byte, at which bcrypt would stop.
 */
function bcryptInput(password: string): string {
  const composed = password.normalize('NFC');
  if (Buffer.byteLength(composed) <= BCRYPT_BYTES) return composed;
  return createHmac('sha256', 'millrace password v1').update(composed).digest('base64');
}

/** Stores the hash, in place of an earlier one. */
export async function saveCredentials(
  db: Kysely<PeopleTables>,
  accountId: AccountId,
  hash: string,
): Promise<void> {
  await db
    .insertInto('credentials')
    .values({ account_id: accountId, password_hash: hash })
    .onConflict((conflict) =>
      conflict.column('account_id').doUpdateSet({ password_hash: hash, changed_at: new Date() }),
    )
    .execute();
}

/** The account's hash. Asks the database also without an account, as its time would tell who is here. */
export async function findCredentials(
  db: Kysely<PeopleTables>,
  accountId: AccountId | undefined,
): Promise<string | undefined> {
  const row = await db
    .selectFrom('credentials')
    .select('password_hash')
    .where('account_id', '=', accountId ?? '')
    .executeTakeFirst();
  return row?.password_hash;
}

export async function deleteCredentials(db: Kysely<PeopleTables>, accountId: AccountId): Promise<void> {
  await db.deleteFrom('credentials').where('account_id', '=', accountId).execute();
}
