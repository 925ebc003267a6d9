import { createPasswords } from '../access/passwords.ts';
import { createPeople, masterKey } from '../access/people.ts';
import type { Config } from '../config.ts';
import type { Db } from './base.ts';

export const masterKeyOf = (config: Pick<Config, 'MASTER_KEY'>) => masterKey(config.MASTER_KEY);

/** Keys and passwords of people, in this database. */
export function peopleOf(config: Config, db: Db) {
  return createPeople(db, masterKeyOf(config), createPasswords({ cost: config.BCRYPT_COST }));
}
