import type { Kysely, Selectable } from 'kysely';
import type { AccountEvent, Role, Sealed } from '../domain/accounts.ts';
import type { Database } from './database.ts';
import type { Projection } from './projection.ts';

/** Personal fields stay sealed: deleting a person's key erases them here, too. */
export type AccountsTable = {
  id: string;
  email: Sealed;
  name: Sealed;
  role: Role;
  version: number;
  created_at: Date;
};

type AccountRow = Selectable<AccountsTable>;

type Registered = Extract<AccountEvent, { type: 'AccountRegistered' }>;

export const projection: Projection<AccountRow, Registered> = {
  name: 'accounts',
  version: 1,
  table: 'accounts_v1',
  columns: {
    id: 'text',
    email: 'text',
    name: 'text',
    role: 'text',
    version: 'int',
    created_at: 'timestamptz',
  },
  handles: { AccountRegistered: true },
  key: (event) => event.streamId,
  reduce: (_row, event) => ({
    id: event.streamId,
    ...event.data,
    version: event.version,
    created_at: new Date(event.meta.at),
  }),
};

/** An account as its owner sees it, its personal fields still sealed. `createdAt`: RFC 3339, milliseconds. */
export type AccountView = {
  readonly id: string;
  readonly email: Sealed;
  readonly name: Sealed;
  readonly role: Role;
  readonly version: number;
  readonly createdAt: string;
};

export async function findAccount(db: Kysely<Database>, id: string): Promise<AccountView | undefined> {
  const row = await db.selectFrom('accounts_v1').selectAll().where('id', '=', id).executeTakeFirst();
  return row && view(row);
}

function view({ created_at, ...row }: AccountRow): AccountView {
  return { ...row, createdAt: created_at.toISOString() };
}
