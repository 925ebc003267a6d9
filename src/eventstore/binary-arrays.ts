/** SQL types whose arrays are sent as Postgres stores them. */
export type ColumnType = 'text' | 'int' | 'bigint' | 'double precision' | 'boolean' | 'timestamptz';

/** Postgres would refuse the value, or keep another one. Its `code` is the SQLSTATE that Postgres has for it. */
export class UnstorableValueError extends Error {
  override readonly name = 'UnstorableValueError';
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const [INVALID_TEXT, OUT_OF_RANGE, INVALID_TIME, WRONG_TYPE] = ['22021', '22003', '22008', '22018'] as const;

/**
 * A column's values as one parameter, in the binary form of Postgres' arrays: for `unnest($1::text[], $2::int[], …)`. pg sends
 * a Buffer as it is, and Postgres copies what it would have to parse otherwise: of 11 columns it takes 3 µs a row, against 5 as
 * array literals and 9 from `json_to_recordset`; here all of them take about 1 µs.
 *
 * The layout is that of `array_send`: dimensions, whether there are nulls, the elements' OID, length, lower bound; then each
 * element's length (-1: null) and bytes, all integers big-endian.
 *
 * Throws `UnstorableValueError` for what the type can't hold; `undefined` is null.
 */
export function binaryArray(type: ColumnType, values: readonly unknown[]): Buffer {
  if (type === 'text') return textArray(values.map(textOf));
  const { oid, size, write } = FIXED[type];
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + values.length * (4 + size));
  let at = writeHeader(bytes, oid, values.length);
  for (const value of values) {
    const isNull = value === null || value === undefined;
    at = bytes.writeInt32BE(isNull ? -1 : size, at);
    if (isNull) continue;
    write(bytes, value, at);
    at += size;
  }
  return bytes.subarray(0, at);
}

const HEADER_BYTES = 20;
const TEXT_OID = 25;

function writeHeader(bytes: Buffer, oid: number, length: number): number {
  let at = 0;
  for (const field of [1, 1, oid, length, 1]) at = bytes.writeInt32BE(field, at);
  return at;
}

type Fixed = {
  readonly oid: number;
  /** Bytes of an element. */
  readonly size: number;
  readonly write: (bytes: Buffer, value: unknown, at: number) => void;
};

const FIXED: Readonly<Record<Exclude<ColumnType, 'text'>, Fixed>> = {
  int: {
    oid: 23,
    size: 4,
    write(bytes, value, at) {
      const number = numberOf(value);
      if ((number | 0) !== number)
        throw new UnstorableValueError(OUT_OF_RANGE, `${number} is out of range for an int`);
      bytes.writeInt32BE(number, at);
    },
  },
  bigint: { oid: 20, size: 8, write: (bytes, value, at) => writeInt8(bytes, numberOf(value), at) },
  'double precision': {
    oid: 701,
    size: 8,
    write: (bytes, value, at) => bytes.writeDoubleBE(numberOf(value), at),
  },
  boolean: {
    oid: 16,
    size: 1,
    write(bytes, value, at) {
      if (typeof value !== 'boolean') throw wrongType(value, 'boolean');
      bytes[at] = value ? 1 : 0;
    },
  },
  timestamptz: {
    oid: 1184,
    size: 8,
    write(bytes, value, at) {
      if (!(value instanceof Date)) throw wrongType(value, 'Date');
      const ms = value.getTime();
      if (Number.isNaN(ms)) throw new UnstorableValueError(INVALID_TIME, 'an invalid Date');
      bytes.writeBigInt64BE(BigInt(ms - YEAR_2000) * 1_000n, at);
    },
  },
};

/** Postgres counts microseconds from here: more than a number holds exactly, from the year 2285 on. */
const YEAR_2000 = Date.UTC(2000, 0);

function writeInt8(bytes: Buffer, value: number, at: number): void {
  if (!Number.isSafeInteger(value))
    throw new UnstorableValueError(OUT_OF_RANGE, `${value} is out of range for an exact bigint`);
  bytes.writeInt32BE(Math.floor(value / 2 ** 32), at);
  bytes.writeUInt32BE(value >>> 0, at + 4);
}

function numberOf(value: unknown): number {
  if (typeof value !== 'number') throw wrongType(value, 'number');
  return value;
}

function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value !== 'string') throw wrongType(value, 'string');
  return value;
}

function wrongType(value: unknown, wanted: string): UnstorableValueError {
  return new UnstorableValueError(WRONG_TYPE, `${typeof value} where a ${wanted} should be`);
}

/**
 * Texts that are ASCII, as nearly all are, are put together as one string, a character for each byte, and written at once: half
 * of what writing each by itself costs.
 */
function textArray(values: readonly (string | null)[]): Buffer {
  const joined = values.join('');
  if (Buffer.byteLength(joined) !== joined.length) return unicodeArray(values, joined);
  let bytes = `${ONE}${ONE}${int4(TEXT_OID)}${int4(values.length)}${ONE}`;
  for (const text of values) bytes += text === null ? NULL : (INT4[text.length] ?? int4(text.length)) + text;
  return Buffer.from(bytes, 'latin1');
}

function unicodeArray(values: readonly (string | null)[], joined: string): Buffer {
  // Postgres would be sent U+FFFD in place of a lone surrogate.
  if (!values.every((text) => text?.isWellFormed() ?? true))
    throw new UnstorableValueError(INVALID_TEXT, 'a text has a lone surrogate');
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + 4 * values.length + Buffer.byteLength(joined));
  let at = writeHeader(bytes, TEXT_OID, values.length);
  for (const text of values) {
    const written = text === null ? -1 : bytes.write(text, at + 4);
    at = bytes.writeInt32BE(written, at) + Math.max(0, written);
  }
  return bytes;
}

/** The four bytes of an int, big-endian, as characters. */
function int4(value: number): string {
  return String.fromCharCode(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

const INT4 = Array.from({ length: 1_024 }, (_, value) => int4(value));
const ONE = int4(1);
const NULL = int4(-1);
