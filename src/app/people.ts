import { createPasswords } from '../access/passwords.ts';
import { createPeople, masterKeys } from '../access/people.ts';
import type { Config } from '../config.ts';
import type { Db } from './base.ts';

export const masterKeysOf = (config: Pick<Config, 'MASTER_KEY'>) => masterKeys(config.MASTER_KEY);

/** Keys and passwords of people, in this database. */
export function peopleOf(config: Config, db: Db) {
  return createPeople(db, masterKeysOf(config), createPasswords({ cost: config.BCRYPT_COST }));
}
