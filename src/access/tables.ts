import type { Generated } from 'kysely';

/** Tables of what is known about people. */
export type PeopleTables = {
  person_keys: {
    account_id: string;
    wrapped_key: Buffer;
    master_key_id: string;
    created_at: Generated<Date>;
  };
  credentials: { account_id: string; password_hash: string; changed_at: Generated<Date> };
};
