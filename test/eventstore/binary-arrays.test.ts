import { expect, it, onTestFinished } from 'vitest';
import { binaryArray, type ColumnType, UnstorableValueError } from '../../src/eventstore/binary-arrays.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { createWorld } from '../support/world.ts';

const cases: Readonly<Record<ColumnType, readonly unknown[]>> = {
  text: ['', 'plain', null, '{"a": "\\"quoted\\", NULL, {}"}', 'x'.repeat(70_000), 'NULL'],
  int: [0, -1, null, 2_147_483_647, -2_147_483_648],
  bigint: [0, -1, null, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 4_294_967_296],
  'double precision': [0.1, -1e300, null, Number.MIN_VALUE],
  boolean: [true, null, false],
  timestamptz: [
    '2026-11-20T12:34:56.789Z',
    null,
    '1969-12-31T23:59:59.999Z',
    '+010000-02-29T00:00:00.001Z',
  ].map((time) => time && new Date(time)),
};
const unicode = ['é', null, 'a', '— ✓ 🎉', '\ufffd'];

it('every value of every type arrives as it was, and nulls as nulls', async () => {
  const world = await createWorld();
  const pool = openPool({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(async () => {
    await pool.end();
    await world.dispose();
  });
  const given = [...Object.entries(cases), ['text', unicode], ['text', []], ['int', []]] as const;
  for (const [type, values] of given as readonly (readonly [ColumnType, readonly unknown[]])[]) {
    const text = `SELECT value FROM unnest($1::${type}[]) AS sent(value)`;
    const { rows } = await pool.query<{ value: unknown }>(text, [binaryArray(type, values)]);
    expect(rows.map(({ value }) => value)).toEqual(values);
  }
});

it('a column that is left out of a row is null', () => {
  expect(binaryArray('int', [undefined])).toEqual(binaryArray('int', [null]));
  expect(binaryArray('text', [undefined])).toEqual(binaryArray('text', [null]));
});

it.each<[ColumnType, unknown, string]>([
  ['text', 'half \ud83d of a pair', '22021'],
  ['text', 7, '22018'],
  ['int', 2_147_483_648, '22003'],
  ['int', 1.5, '22003'],
  ['bigint', 2 ** 53, '22003'],
  ['bigint', Number.NaN, '22003'],
  ['boolean', 'true', '22018'],
  ['timestamptz', new Date(Number.NaN), '22008'],
  ['timestamptz', '2026-11-20T12:34:56.789Z', '22018'],
])('%s refuses %s, as what Postgres would refuse or change', (type, value, code) => {
  const send = () => binaryArray(type, [value]);
  expect(send).toThrow(UnstorableValueError);
  expect(send).toThrow(expect.objectContaining({ code }));
});
