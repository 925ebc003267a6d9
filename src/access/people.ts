import {
  type CipherKey,
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  randomBytes,
  randomFillSync,
} from 'node:crypto';
import { type Kysely, sql, type Transaction } from 'kysely';
import type { Sealed } from '../domain/accounts.ts';
import type { AccountId } from '../domain/ids.ts';
import { deleteCredentials, findCredentials, type Passwords, saveCredentials } from './passwords.ts';
import type { PeopleTables } from './tables.ts';

const PREFIX = 'sealed:v1:';
const JSON_PREFIX = 'sealed-json:v1:';
const IV_BYTES = 12;
const TAG_BYTES = 16;

export type MasterKey = { readonly id: string; readonly key: Buffer };
/** The first one wraps; all of them open what they wrapped. */
export type MasterKeys = readonly [MasterKey, ...MasterKey[]];

/** Opens one person's texts. Never stored as it is, never kept beyond the request or batch that needs it. */
export type PersonKey = {
  readonly accountId: string;
  /** Made ready once: with its bytes each sealing would take three times as long. */
  readonly key: KeyObject;
};

type Db = Kysely<PeopleTables> | Transaction<PeopleTables>;

/**
 * There is no key, so the person's texts can't be opened. After an erasure that is as it should be; without
 * one, Postgres has gone back to before the key was made, and is to be restored, never papered over.
 */
export class PersonKeyMissingError extends Error {
  override readonly name = 'PersonKeyMissingError';
  constructor(accountId: string) {
    super(
      `no key for the person of ${accountId}: erased, or lost with an older copy of Postgres (then restore person_keys)`,
    );
  }
}

/** The person's key is there, and what it is wrapped by is not among the master keys of this process. */
export class MasterKeyMissingError extends Error {
  override readonly name = 'MasterKeyMissingError';
  constructor(accountId: string, masterKeyId: string) {
    super(`the key of ${accountId} is wrapped by master key ${masterKeyId}, which is not in MASTER_KEY`);
  }
}

/** Sealed under another key, for another person, or changed since. */
export class UnsealError extends Error {
  override readonly name = 'UnsealError';
}

/** @param key 32 bytes. Its id says which master key wrapped a row, so that they can be told apart later. */
export function masterKey(key: Buffer): MasterKey {
  if (key.length !== 32) throw new Error(`a master key has 32 bytes, this one ${key.length}`);
  const id = createHash('sha256').update('millrace master key id').update(key).digest('hex').slice(0, 16);
  return { id, key };
}

/** In their order: the first one wraps. */
export function masterKeys(keys: readonly Buffer[]): MasterKeys {
  const [first, ...more] = keys.map(masterKey);
  if (!first) throw new Error('there is no master key');
  return [first, ...more];
}

/** The same key of a person, wrapped by the first master key. Throws `MasterKeyMissingError`, `UnsealError`. */
export function rewrap(masters: MasterKeys, accountId: string, wrapped: Buffer, masterKeyId: string): Buffer {
  return wrap(masters, accountId, unwrap(masters, accountId, wrapped, masterKeyId));
}

function wrap([newest]: MasterKeys, accountId: string, key: Buffer): Buffer {
  return encrypt(newest.key, wrapContext(accountId), key);
}

function unwrap(masters: MasterKeys, accountId: string, wrapped: Buffer, masterKeyId: string): Buffer {
  const master = masters.find(({ id }) => id === masterKeyId);
  if (!master) throw new MasterKeyMissingError(accountId, masterKeyId);
  try {
    return decrypt(master.key, wrapContext(accountId), wrapped);
  } catch (error) {
    throw new UnsealError(`the key of ${accountId} does not open with master key ${masterKeyId}`, {
      cause: error,
    });
  }
}

/** Makes the person's key, or finds the one that is there: a retry must not lock out what it sealed before. */
export async function createPersonKey(db: Db, masters: MasterKeys, accountId: AccountId): Promise<PersonKey> {
  const key = randomBytes(32);
  const inserted = await db
    .insertInto('person_keys')
    .values({
      account_id: accountId,
      wrapped_key: wrap(masters, accountId, key),
      master_key_id: masters[0].id,
    })
    .onConflict((conflict) => conflict.column('account_id').doNothing())
    .executeTakeFirst();
  if (inserted.numInsertedOrUpdatedRows === 1n) return { accountId, key: createSecretKey(key) };
  return findPersonKey(db, masters, accountId);
}

/** Throws `PersonKeyMissingError`, and what `findPersonKeys` may have found. */
export async function findPersonKey(db: Db, masters: MasterKeys, accountId: string): Promise<PersonKey> {
  const key = (await findPersonKeys(db, masters, [accountId])).get(accountId);
  if (!key) throw new PersonKeyMissingError(accountId);
  if (key instanceof Error) throw key;
  return key;
}

/**
 * Those of these accounts that there are; of one whose key does not unwrap, why: a `MasterKeyMissingError` or an
 * `UnsealError`. It is nobody else's fault: others' keys are found beside it.
 */
export async function findPersonKeys(
  db: Db,
  masters: MasterKeys,
  accountIds: readonly string[],
): Promise<Map<string, PersonKey | Error>> {
  const rows = await db
    .selectFrom('person_keys')
    .select(['account_id', 'wrapped_key', 'master_key_id'])
    .where('account_id', 'in', accountIds)
    .execute();
  const found = new Map<string, PersonKey | Error>();
  for (const { account_id: accountId, wrapped_key, master_key_id } of rows) {
    try {
      const key = createSecretKey(unwrap(masters, accountId, wrapped_key, master_key_id));
      found.set(accountId, { accountId, key });
    } catch (error) {
      found.set(accountId, error instanceof Error ? error : new Error(String(error)));
    }
  }
  return found;
}

/** What was sealed with it can never be opened again. */
export async function deletePersonKey(db: Db, accountId: AccountId): Promise<void> {
  await db.deleteFrom('person_keys').where('account_id', '=', accountId).execute();
}

/**
 * Deletes keys and passwords of all who were erased, as far as the ledger holds their `AccountErased`: what a Postgres that
 * went back has brought back goes again. The ledger says who they are, whether or not a projector follows it; where it has
 * moved old events to files, the read model `erasures` does.
 * @returns accounts of which there was something
 */
export async function forgetErased(db: Kysely<PeopleTables>): Promise<string[]> {
  const { rows } = await sql<{ account_id: string }>`
    WITH erased AS (
      SELECT e.id FROM erasures_v1 AS e
      JOIN checkpoints AS c ON c.group_name = 'ledger' AND c.partition = e.partition AND c.seq >= e.seq
      UNION SELECT stream_id FROM ledger WHERE type = 'AccountErased'
    ), keys AS (
      DELETE FROM person_keys USING erased WHERE account_id = erased.id RETURNING account_id
    ), passwords AS (
      DELETE FROM credentials USING erased WHERE account_id = erased.id RETURNING account_id
    )
    SELECT account_id FROM keys UNION SELECT account_id FROM passwords`.execute(db);
  return rows.map(({ account_id }) => account_id);
}

/** AES-256-GCM, bound to the account, so that one person's text can't be passed off as another's. */
export function seal(person: PersonKey, text: string): Sealed {
  const bytes = encrypt(person.key, person.accountId, Buffer.from(text));
  return `${PREFIX}${bytes.toString('base64url')}` as Sealed;
}

/** The same of any value: sealed as JSON, it is that value again. */
export function sealJson(person: PersonKey, value: unknown): string {
  const bytes = encrypt(person.key, `${person.accountId} json`, Buffer.from(JSON.stringify(value) ?? 'null'));
  return `${JSON_PREFIX}${bytes.toString('base64url')}`;
}

/** The text, or the value where one was sealed. Throws `UnsealError`. */
export function open(person: PersonKey, sealed: string): unknown {
  const { key, accountId } = person;
  const opened = (prefix: string, context: string) =>
    decrypt(key, context, Buffer.from(sealed.slice(prefix.length), 'base64url')).toString();
  if (sealed.startsWith(PREFIX)) return opened(PREFIX, accountId);
  if (sealed.startsWith(JSON_PREFIX)) return JSON.parse(opened(JSON_PREFIX, `${accountId} json`));
  throw new UnsealError('not a sealed text');
}

/**
 * What commands and queries need of people, bound to its database and keys: satisfies the `People` of
 * `commands/accounts.ts` and the `passwordMatches` of `commands/sessions.ts`.
 */
export function createPeople(db: Kysely<PeopleTables>, masters: MasterKeys, passwords: Passwords) {
  return {
    async sealFor(accountId: AccountId, texts: readonly string[]): Promise<Sealed[]> {
      const person = await createPersonKey(db, masters, accountId);
      return texts.map((text) => seal(person, text));
    },
    /** Throws `PersonKeyMissingError`, `MasterKeyMissingError` or `UnsealError`. */
    async openFor(accountId: string, texts: readonly string[]): Promise<string[]> {
      const person = await findPersonKey(db, masters, accountId);
      return texts.map((text) => String(open(person, text)));
    },
    async savePassword(accountId: AccountId, password: string): Promise<void> {
      await saveCredentials(db, accountId, await passwords.hash(password));
    },
    async passwordMatches(accountId: AccountId | undefined, password: string): Promise<boolean> {
      return passwords.matches(await findCredentials(db, accountId), password);
    },
    async forget(accountId: AccountId): Promise<void> {
      await db.transaction().execute(async (transaction) => {
        await deletePersonKey(transaction, accountId);
        await deleteCredentials(transaction, accountId);
      });
    },
  };
}

const wrapContext = (accountId: string) => `person key of ${accountId}`;

function encrypt(key: CipherKey, context: string, plain: Buffer): Buffer {
  const iv = nextIv();
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(context));
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Randomness is asked for in pieces: a call for each costs a third of the sealing. Each is used once. */
const ivs = Buffer.alloc(IV_BYTES * 340);
let ivsUsed = ivs.length;

function nextIv(): Buffer {
  if (ivsUsed === ivs.length) {
    randomFillSync(ivs);
    ivsUsed = 0;
  }
  ivsUsed += IV_BYTES;
  return ivs.subarray(ivsUsed - IV_BYTES, ivsUsed);
}

function decrypt(key: CipherKey, context: string, sealed: Buffer): Buffer {
  if (sealed.length < IV_BYTES + TAG_BYTES) throw new UnsealError('too short to be sealed');
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_BYTES))
    .setAAD(Buffer.from(context))
    .setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch {
    throw new UnsealError('sealed under another key, for another person, or changed since');
  }
}
