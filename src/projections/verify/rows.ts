import { type Kysely, sql } from 'kysely';
import type { Findings } from '../../eventstore/verify/findings.ts';
import type { Database } from '../database.ts';
import type { ReadModel } from '../generations.ts';
import type { AnyProjection, AnyRow } from '../projection.ts';

const PAGE = 5_000;

/** Compares rows as they should be with those that are there, under the same keys. */
export async function compareRows<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  expected: ReadonlyMap<string, R>,
  findings: Findings,
): Promise<void> {
  const keys = [...expected.keys()];
  for (let from = 0; from < keys.length; from += PAGE) {
    const page = keys.slice(from, from + PAGE);
    const found = new Map((await readRows(db, model, page)).map((row) => [row.id, row]));
    for (const key of page) {
      const should = expected.get(key);
      const is = found.get(key);
      const where = `${model.projection.table} ${key}`;
      if (!should) continue;
      if (!is)
        findings.add({
          kind: 'row_missing',
          where,
          detail: 'its events are in the ledger, the row is not there',
        });
      else
        for (const detail of differences(model.projection, should, is))
          findings.add({ kind: 'row_differs', where, detail });
    }
  }
}

/** Keys of rows of the table in the order of the key, in pages. */
export async function* keysOf<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
): AsyncGenerator<readonly string[]> {
  for (let after = ''; ; ) {
    const { rows } = await sql<{ id: string }>`
      SELECT id FROM ${sql.table(model.table)} WHERE id > ${after} ORDER BY id LIMIT ${PAGE}`.execute(db);
    const last = rows.at(-1);
    if (!last) return;
    yield rows.map(({ id }) => id);
    after = last.id;
  }
}

async function readRows<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  keys: readonly string[],
): Promise<readonly R[]> {
  const columns = sql.join(Object.keys(model.projection.columns).map((name) => sql.ref(name)));
  const { rows } = await sql<R>`
    SELECT ${columns} FROM ${sql.table(model.table)} WHERE id = ANY(${keys}::text[])`.execute(db);
  return rows;
}

function differences<R extends AnyRow>({ columns }: AnyProjection<R>, should: R, is: R): string[] {
  const names = Object.keys(columns) as (keyof R & string)[];
  return names
    .filter((name) => plain(should[name]) !== plain(is[name]))
    .map((name) => `${name} is ${plain(is[name])}, the ledger says ${plain(should[name])}`);
}

/** Values of columns are texts, numbers, booleans, times and null. */
function plain(value: unknown): string {
  return JSON.stringify(value) ?? 'undefined';
}
