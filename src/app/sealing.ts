import { type PersonKey, PersonKeyMissingError, seal, sealJson, UnsealError } from '../access/people.ts';
import { createPersonKeys, type PersonKeys } from '../access/person-keys.ts';
import { holdsSealed, mapSealed, openDeep } from '../access/sealed.ts';
import type { SealJob } from '../commands/handle.ts';
import type { Config } from '../config.ts';
import type { Seals } from '../consumers/seals.ts';
import { accountFold } from '../domain/accounts.ts';
import { type AccountId, parseStreamId } from '../domain/ids.ts';
import { type Sealer, sealedJob } from '../domain/jobs/personal.ts';
import type { EventStore } from '../eventstore/types.ts';
import { configuredJobTypes, jobTypes } from '../features.ts';
import { wasErased } from '../projections/erasures.ts';
import { openArchives } from './archives.ts';
import type { Db } from './base.ts';
import { masterKeysOf } from './people.ts';

/** What stands in an answer for what nobody can open any more. */
const ERASED = '[erased]';
/** The same, where nobody was erased: a fault. */
const MISSING = '[key missing]';

export type Sealing = {
  readonly seals: Seals;
  readonly sealJob: SealJob;
  /**
   * A value as its owner, or an operator, is shown it: what was sealed for the owner is opened. Of a person who was erased
   * it says so.
   */
  readonly opened: <T>(owner: string | undefined, value: T) => Promise<T>;
  readonly keys: PersonKeys;
};

/**
 * What a process needs to seal and to open what people's jobs say.
 * @param store tells who stands while Postgres is away; without it nothing is opened then
 */
export function openSealing(config: Config, db: Db, store?: Pick<EventStore, 'load'>): Sealing {
  const archives = openArchives(config);
  const stands = async (account: string): Promise<boolean> => {
    const id: AccountId | undefined = parseStreamId(account, 'acc');
    return id !== undefined && (await store?.load(id, accountFold))?.state.phase === 'active';
  };
  const keys = createPersonKeys(db, masterKeysOf(config), { stands });
  const impersonal = new Set(
    [...jobTypes, ...configuredJobTypes(config)]
      .filter((type) => 'personal' in type && type.personal === false)
      .map(({ type }) => type),
  );

  async function load(owner: string): Promise<Sealer | 'erased' | 'missing'> {
    try {
      return sealerOf(await keys.load(owner));
    } catch (error) {
      if (!(error instanceof PersonKeyMissingError)) throw error;
      const id: AccountId | undefined = parseStreamId(owner, 'acc');
      return id && (await wasErased(db, id, archives)) ? 'erased' : 'missing';
    }
  }

  return {
    keys,
    seals: {
      ready(owner) {
        const key = keys.ready(owner);
        return key && sealerOf(key);
      },
      load,
    },
    async sealJob(owner, job) {
      if (owner === undefined || impersonal.has(job.type)) return job;
      const sealer = await load(owner);
      if (sealer === 'erased') return undefined;
      if (sealer === 'missing') throw new PersonKeyMissingError(owner);
      return sealedJob(job, sealer);
    },
    async opened<T>(owner: string | undefined, value: T): Promise<T> {
      if (owner === undefined || !holdsSealed(value)) return value;
      const sealer = await load(owner).catch(missingIfDamaged);
      if (typeof sealer !== 'string') return sealer.open(value) as T;
      const said = sealer === 'erased' ? ERASED : MISSING;
      return mapSealed(value, () => said) as T;
    },
  };
}

/** What is shown of a person whose key does not unwrap must not keep others' off a list: it is a fault of that person's row. */
function missingIfDamaged(error: unknown): 'missing' {
  if (error instanceof UnsealError) return 'missing';
  throw error;
}

function sealerOf(person: PersonKey): Sealer {
  return {
    text: (text) => seal(person, text),
    json: (value) => sealJson(person, value),
    open: (value) => openDeep(person, value),
  };
}
