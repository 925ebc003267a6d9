import { type Kysely, sql } from 'kysely';
import { type MasterKeys, rewrap, UnsealError } from './people.ts';
import type { PeopleTables } from './tables.ts';

/** How many keys of persons a master key wraps, and what it is to this process. */
export type MasterKeyUse = {
  readonly id: string;
  readonly keys: number;
  /** `wraps`: new ones, too. `opens`: what it wrapped before. `missing`: nobody here has it. */
  readonly use: 'wraps' | 'opens' | 'missing';
};

/** The first of `MASTER_KEY` first; those that are missing last. */
export async function listMasterKeys(db: Kysely<PeopleTables>, masters: MasterKeys): Promise<MasterKeyUse[]> {
  const rows = await db
    .selectFrom('person_keys')
    .select((eb) => ['master_key_id', eb.fn.countAll<string>().as('keys')])
    .groupBy('master_key_id')
    .orderBy('master_key_id')
    .execute();
  const counts = new Map(rows.map(({ master_key_id, keys }) => [master_key_id, Number(keys)]));
  const known = masters.map(({ id }, index): MasterKeyUse => {
    return { id, keys: counts.get(id) ?? 0, use: index === 0 ? 'wraps' : 'opens' };
  });
  const missing = [...counts].filter(([id]) => !masters.some((master) => master.id === id));
  return [...known, ...missing.map(([id, keys]): MasterKeyUse => ({ id, keys, use: 'missing' }))];
}

/** A master key is missing by which keys of persons are wrapped. */
export class MasterKeysMissingError extends Error {
  override readonly name = 'MasterKeysMissingError';
  constructor(missing: readonly MasterKeyUse[]) {
    const which = missing.map(({ id, keys }) => `${id} (${keys} people)`).join(', ');
    super(
      `Keys of persons are wrapped by master keys that MASTER_KEY does not name: ${which}. Add them behind the first, separated by a comma; \`millrace keys rotate\` makes them superfluous.`,
    );
  }
}

/** Throws `MasterKeysMissingError`: better at a start than at the first person whose data does not open. */
export async function checkMasterKeys(db: Kysely<PeopleTables>, masters: MasterKeys): Promise<void> {
  const missing = (await listMasterKeys(db, masters)).filter(({ use }) => use === 'missing');
  if (missing.length > 0) throw new MasterKeysMissingError(missing);
}

const BATCH = 500;

export type Rotated = {
  /** How many were wrapped anew. */
  readonly done: number;
  /** Accounts whose keys do not unwrap: the rows were damaged. They are as they were. */
  readonly damaged: readonly string[];
};

/**
 * Wraps by the first master key what others have wrapped, a batch a statement. Cut off it has done a part, and the next run
 * does the rest; who registers or is erased meanwhile is not disturbed, and of two that run at once each does a part. What
 * was sealed stays as it is: the keys of persons are the same ones.
 *
 * Throws `MasterKeysMissingError`, before anything is changed.
 * @param options.onBatch told how many are done
 */
export async function rotatePersonKeys(
  db: Kysely<PeopleTables>,
  masters: MasterKeys,
  options: { readonly onBatch?: (done: number) => void; readonly batch?: number } = {},
): Promise<Rotated> {
  const { onBatch, batch = BATCH } = options;
  await checkMasterKeys(db, masters);
  const [newest] = masters;
  const damaged: string[] = [];
  let done = 0;
  for (let after = ''; ; ) {
    const rows = await db
      .selectFrom('person_keys')
      .select(['account_id', 'wrapped_key', 'master_key_id'])
      .where('account_id', '>', after)
      .where('master_key_id', '!=', newest.id)
      .orderBy('account_id')
      .limit(batch)
      .execute();
    const last = rows.at(-1);
    if (!last) return { done, damaged };
    after = last.account_id;
    const wrapped = rows.flatMap((row) => {
      const anew = rewrapped(masters, row);
      if (!anew) damaged.push(row.account_id);
      return anew ? [{ ...row, anew }] : [];
    });
    const ids = wrapped.map(({ account_id }) => account_id);
    const former = wrapped.map(({ wrapped_key }) => wrapped_key);
    // Locked in their order: of two rotations at once neither waits for a row of a batch that waits for it.
    const { numAffectedRows = 0n } = await sql`
      WITH new AS (
        SELECT * FROM unnest(
          ${ids}::text[], ${wrapped.map(({ anew }) => anew)}::bytea[], ${former}::bytea[]
        ) AS new (id, wrapped, former)
      ), locked AS (
        SELECT account_id FROM person_keys WHERE account_id IN (SELECT id FROM new) ORDER BY account_id FOR UPDATE
      )
      UPDATE person_keys AS key SET wrapped_key = new.wrapped, master_key_id = ${newest.id}
      FROM new JOIN locked ON locked.account_id = new.id
      WHERE key.account_id = new.id AND key.wrapped_key = new.former`.execute(db);
    done += Number(numAffectedRows);
    onBatch?.(done);
  }
}

/** Undefined: it does not unwrap. */
function rewrapped(
  masters: MasterKeys,
  row: { readonly account_id: string; readonly wrapped_key: Buffer; readonly master_key_id: string },
): Buffer | undefined {
  try {
    return rewrap(masters, row.account_id, row.wrapped_key, row.master_key_id);
  } catch (error) {
    if (error instanceof UnsealError) return undefined;
    throw error;
  }
}
