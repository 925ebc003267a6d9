import type { Kysely } from 'kysely';
import { findPersonKeys, type MasterKeys, type PersonKey, PersonKeyMissingError } from './people.ts';
import type { PeopleTables } from './tables.ts';

/**
 * How long a key is used after it was asked for: so long after a person was erased no process has their key any more. Not told
 * by hints, as those may get lost.
 */
export const KEY_MS = 2_000;
/** While Postgres can't be asked what was known goes on for so long. */
const OUTAGE_MS = 600_000;
const MOST = 10_000;

/** The keys of people for whom there is something to do right now. */
export type PersonKeys = {
  /** At once; undefined: it has to be asked for. */
  ready(accountId: string): PersonKey | undefined;
  /**
   * Throws `PersonKeyMissingError`, what `findPersonKeys` may find, and what Postgres throws. All that are asked for in one
   * tick are one query.
   */
  load(accountId: string): Promise<PersonKey>;
};

/** By a clock that nobody sets: one that went back would let a key live on. */
type Entry = { readonly key: PersonKey; readonly askedAt: number };
type Asked = {
  readonly ids: Set<string>;
  /** `at`: before the query, as that says what was there then. */
  readonly found: Promise<{ readonly at: number; readonly keys: Map<string, PersonKey | Error> }>;
};

/**
 * @param options.stands whether an account is not erased, asked of another than Postgres. While that can't be asked it may be
 * that nobody can delete a key there, or that this process alone can't: only of who stands, what was known goes on. Without it,
 * of nobody
 * @param options.now milliseconds, monotonic
 */
export function createPersonKeys(
  db: Kysely<PeopleTables>,
  masters: MasterKeys,
  options: {
    readonly stands?: ((accountId: string) => Promise<boolean>) | undefined;
    readonly now?: () => number;
  } = {},
): PersonKeys {
  const { stands = async () => false, now = () => performance.now() } = options;
  const known = new Map<string, Entry>();
  let asked: Asked | undefined;

  function query(): Asked {
    const ids = new Set<string>();
    const found = new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
      asked = undefined;
      const at = now();
      return { at, keys: await findPersonKeys(db, masters, [...ids]) };
    });
    return { ids, found };
  }

  function remember(key: PersonKey, askedAt: number): void {
    known.delete(key.accountId);
    known.set(key.accountId, { key, askedAt });
    for (const oldest of known.keys()) {
      if (known.size <= MOST) break;
      known.delete(oldest);
    }
  }

  const fresh = (accountId: string, within: number) => {
    const entry = known.get(accountId);
    return entry && now() - entry.askedAt < within ? entry.key : undefined;
  };

  async function former(accountId: string): Promise<PersonKey | undefined> {
    const key = fresh(accountId, OUTAGE_MS);
    return key && (await stands(accountId).catch(() => false)) ? key : undefined;
  }

  return {
    ready: (accountId) => fresh(accountId, KEY_MS),
    async load(accountId) {
      const ready = fresh(accountId, KEY_MS);
      if (ready) return ready;
      asked ??= query();
      asked.ids.add(accountId);
      let found: Awaited<Asked['found']>;
      try {
        found = await asked.found;
      } catch (error) {
        const key = await former(accountId);
        if (key) return key;
        throw error;
      }
      const key = found.keys.get(accountId) ?? new PersonKeyMissingError(accountId);
      if (key instanceof Error) {
        known.delete(accountId);
        throw key;
      }
      remember(key, found.at);
      return key;
    },
  };
}
