import type { Readable } from 'node:stream';

/** What a blob store takes: a file's content in pieces, read no faster than it can be stored. */
export type BlobSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export type WriteOptions = {
  /** Aborts the write: it rejects with the signal's reason, and nothing of it stays. */
  readonly signal?: AbortSignal | undefined;
  /** The largest blob that is taken; more rejects with BlobTooLarge, and nothing of it stays. */
  readonly maxBytes?: number | undefined;
};

/** Both ends inclusive, as in HTTP; without `end`, or with one beyond, up to the last byte. */
export type ByteRange = { readonly start: number; readonly end?: number | undefined };

export type WrittenBlob = {
  readonly bytes: number;
  /** Of the content, 64 hex digits. */
  readonly sha256: string;
};

/**
 * Where files live. Disk now, S3 behind the same face: hence keys instead of paths, whole blobs instead of
 * appends, and no promise that is not kept by both (`test/blobs/conformance.ts` lists the promises).
 *
 * A key that breaks the rules of `checkKey` rejects with InvalidBlobKey, whatever is asked.
 */
export type BlobStore = {
  /**
   * Stores a blob, replacing what was there. It is visible as a whole and durable when this resolves, and before
   * that not at all: readers see the former one, or none. Of two writers of one key the later to finish wins.
   *
   * However it ends, the source is told: a Readable is destroyed, another iterator is returned. To answer on the
   * connection of a request whose body was refused, hand over `request.iterator({ destroyOnReturn: false })`.
   *
   * @throws BlobTooLarge, the signal's reason, or what the source threw; a former blob then stays as it was
   */
  write(key: string, source: BlobSource, options?: WriteOptions): Promise<WrittenBlob>;
  /**
   * Opens a blob. The stream goes on to the end of what was opened, also if it is replaced or removed meanwhile;
   * destroy it if you don't read it to the end.
   *
   * @throws BlobNotFound; RangeNotSatisfiable where the range begins behind the last byte, or ends before it begins
   */
  read(key: string, range?: ByteRange): Promise<Readable>;
  /** The size of a blob, or undefined where there is none. */
  stat(key: string): Promise<{ readonly bytes: number } | undefined>;
  /** Removes a blob; one that is not there is no error. */
  remove(key: string): Promise<void>;
  /**
   * Removes all that lies in a folder (a key and `/`): blobs, what is being written there, which is rejected, and what
   * a process that died has left half written, which no key names. Durable when this resolves.
   *
   * @returns how many blobs there were
   */
  removeFolder(folder: `${string}/`): Promise<number>;
  /** Every blob whose key begins with `prefix` (any part of a key; '' for all), ordered by key. */
  list(prefix: string): AsyncIterable<{ readonly key: string; readonly bytes: number }>;
};

export class BlobNotFound extends Error {
  override readonly name = 'BlobNotFound';
  readonly key: string;
  constructor(key: string) {
    super(`no blob ${key}`);
    this.key = key;
  }
}

export class InvalidBlobKey extends Error {
  override readonly name = 'InvalidBlobKey';
}

export class BlobTooLarge extends Error {
  override readonly name = 'BlobTooLarge';
  readonly maxBytes: number;
  constructor(maxBytes: number) {
    super(`blob exceeds ${maxBytes} bytes`);
    this.maxBytes = maxBytes;
  }
}

export class RangeNotSatisfiable extends Error {
  override readonly name = 'RangeNotSatisfiable';
  readonly bytes: number;
  constructor(bytes: number) {
    super(`range begins behind the ${bytes} bytes of the blob`);
    this.bytes = bytes;
  }
}

const KEY = /^[a-z0-9][a-zA-Z0-9._/-]*$/;
const MAX_KEY = 512;
/** A file name of 255 bytes is the most that file systems take; a temporary file's has more than the key's. */
const MAX_SEGMENT = 200;

/**
 * A key is 1–512 of `a-z A-Z 0-9 . _ / -`, begins with a lower-case letter or a digit, and is made of segments
 * of 1–200 characters, none of which begins with a dot or holds `..`. No key may be another's folder (`a` beside
 * `a/b`): a disk can't hold both.
 *
 * @throws InvalidBlobKey, without quoting the key: it may be hostile
 */
export function checkKey(key: string): void {
  const valid =
    KEY.test(key) &&
    key.length <= MAX_KEY &&
    !key.includes('..') &&
    key.split('/').every((part) => part !== '' && !part.startsWith('.') && part.length <= MAX_SEGMENT);
  if (!valid) throw new InvalidBlobKey('not a valid blob key');
}

/** A prefix is '' or the beginning of a key. @throws InvalidBlobKey */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}
