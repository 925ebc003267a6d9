import type { Kysely } from 'kysely';
import { findPersonKeys, type MasterKeys, type PersonKey, PersonKeyMissingError } from './people.ts';
import type { PeopleTables } from './tables.ts';

/**
 * How long a key is used that was loaded: so long after a person was erased no process has their key any more. Not told by
 * hints, as those may get lost.
 */
export const KEY_MS = 2_000;
/** While Postgres can't be asked nobody can delete a key there either: what was known goes on for so long. */
const OUTAGE_MS = 600_000;
const MOST = 10_000;

/** The keys of people for whom there is something to do right now. */
export type PersonKeys = {
  /** At once; undefined: it has to be asked for. */
  ready(accountId: string): PersonKey | undefined;
  /** Throws `PersonKeyMissingError`, and what Postgres throws. All that are asked for in one tick are one query. */
  load(accountId: string): Promise<PersonKey>;
};

type Entry = { readonly key: PersonKey; readonly loadedAt: number };

export function createPersonKeys(
  db: Kysely<PeopleTables>,
  masters: MasterKeys,
  now = () => Date.now(),
): PersonKeys {
  const known = new Map<string, Entry>();
  let asked: { readonly ids: Set<string>; readonly found: Promise<Map<string, PersonKey>> } | undefined;

  function query(): NonNullable<typeof asked> {
    const ids = new Set<string>();
    const found = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      asked = undefined;
      return findPersonKeys(db, masters, [...ids]);
    });
    return { ids, found };
  }

  function remember(key: PersonKey): void {
    known.delete(key.accountId);
    known.set(key.accountId, { key, loadedAt: now() });
    for (const oldest of known.keys()) {
      if (known.size <= MOST) break;
      known.delete(oldest);
    }
  }

  const fresh = (accountId: string, within: number) => {
    const entry = known.get(accountId);
    return entry && now() - entry.loadedAt < within ? entry.key : undefined;
  };

  return {
    ready: (accountId) => fresh(accountId, KEY_MS),
    async load(accountId) {
      const ready = fresh(accountId, KEY_MS);
      if (ready) return ready;
      asked ??= query();
      asked.ids.add(accountId);
      let found: Map<string, PersonKey>;
      try {
        found = await asked.found;
      } catch (error) {
        const former = fresh(accountId, OUTAGE_MS);
        if (former) return former;
        throw error;
      }
      const key = found.get(accountId);
      if (!key) {
        known.delete(accountId);
        throw new PersonKeyMissingError(accountId);
      }
      remember(key);
      return key;
    },
  };
}
