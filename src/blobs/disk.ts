import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import {
  BlobNotFound,
  type BlobSource,
  type BlobStore,
  BlobTooLarge,
  checkKey,
  checkPrefix,
  RangeNotSatisfiable,
  type WriteOptions,
  type WrittenBlob,
} from './blobs.ts';

/** No key may hold this character, so a temporary file is never mistaken for a blob. */
const TEMPORARY = '~';
/** A writer touches its file all the time; one untouched for so long belongs to a process that died. */
const LEFTOVER_AGE_MS = 3_600_000;
const PRIVATE_FOLDER = 0o700;
const PRIVATE_FILE = 0o600;

export type DiskStore = BlobStore & {
  /**
   * Removes the temporary files of writers that died, untouched for `olderThanMs` (default one hour), and
   * answers how many. Runs by itself before a process's first write. Should it ever take a living writer's file,
   * that write rejects; nothing half-written appears.
   */
  sweep(olderThanMs?: number): Promise<number>;
};

/**
 * A blob store in a folder, which is made when it is needed, readable by its owner only. Several processes of
 * one machine may share it (or of several machines, on a file system whose rename is atomic).
 */
export function createDiskStore(path: string): DiskStore {
  const folder = resolve(path);
  const pathOf = (key: string) => join(folder, ...key.split('/'));
  let swept = false;
  return {
    async write(key, source, options = {}) {
      try {
        checkKey(key);
        if (!swept) {
          swept = true;
          // In the background: a large store takes its time, and what can't be tidied up must not stop a write.
          sweep(folder, LEFTOVER_AGE_MS).catch(() => {});
        }
        return await write(pathOf(key), source, options);
      } catch (error) {
        // Also where nothing was read yet: a stream that nobody listens to takes the process down if it fails.
        if (source instanceof Readable) source.destroy();
        throw error;
      }
    },
    async read(key, range) {
      checkKey(key);
      const handle = await open(pathOf(key), 'r').catch(absent);
      const found = await handle?.stat();
      if (handle === undefined || found?.isFile() !== true) {
        await handle?.close();
        throw new BlobNotFound(key);
      }
      const start = range?.start ?? 0;
      if (range !== undefined && (start < 0 || start >= found.size || (range.end ?? start) < start)) {
        await handle.close();
        throw new RangeNotSatisfiable(found.size);
      }
      return handle.createReadStream({ start, ...(range?.end === undefined ? {} : { end: range.end }) });
    },
    async stat(key) {
      checkKey(key);
      const found = await stat(pathOf(key)).catch(absent);
      return found?.isFile() === true ? { bytes: found.size } : undefined;
    },
    async remove(key) {
      checkKey(key);
      await rm(pathOf(key)).catch(absent);
    },
    async removeFolder(prefix) {
      checkPrefix(prefix);
      const path = pathOf(prefix.slice(0, -1));
      let blobs = 0;
      for await (const _ of walk(folder, prefix, prefix)) blobs++;
      // The folder, too: a writer that has not opened its file by now can't any more. Who makes one meanwhile loses it as well.
      await rm(path, { recursive: true, force: true, maxRetries: 5 });
      await syncFolder(dirname(path)).catch(absent);
      return blobs;
    },
    async *list(prefix) {
      checkPrefix(prefix);
      // From the deepest folder that the prefix names: its neighbours may be many.
      const within = prefix.slice(0, prefix.lastIndexOf('/') + 1);
      for await (const key of walk(folder, within, prefix)) {
        const found = await stat(pathOf(key)).catch(absent);
        if (found !== undefined) yield { key, bytes: found.size };
      }
    },
    sweep: (olderThanMs = LEFTOVER_AGE_MS) => sweep(folder, olderThanMs),
  };
}

async function write(
  path: string,
  source: BlobSource,
  { signal, maxBytes }: WriteOptions,
): Promise<WrittenBlob> {
  signal?.throwIfAborted();
  const folder = dirname(path);
  const created = await mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER });
  const name = `${TEMPORARY}${path.slice(folder.length + 1)}.${randomBytes(8).toString('hex')}`;
  const temporary = join(folder, name);
  const hash = createHash('sha256');
  let bytes = 0;
  async function* measured() {
    for await (const chunk of abortable(source, signal)) {
      if (!(chunk instanceof Uint8Array)) throw new TypeError('a blob is made of bytes, not of strings');
      bytes += chunk.byteLength;
      if (maxBytes !== undefined && bytes > maxBytes) throw new BlobTooLarge(maxBytes);
      hash.update(chunk);
      yield chunk;
    }
  }
  // `flush` is fsync before close: without it the rename may reach the disk before the content does.
  const file = createWriteStream(temporary, {
    flags: 'wx',
    mode: PRIVATE_FILE,
    flush: true,
    highWaterMark: 262_144,
  });
  try {
    await pipeline(measured, file, signal === undefined ? {} : { signal });
    await rename(temporary, path);
  } catch (error) {
    await finished(file, { cleanup: true }).catch(() => {});
    await rm(temporary, { force: true }).catch(() => {});
    throw signal?.aborted === true ? signal.reason : error;
  }
  await syncFolders(folder, created);
  return { bytes, sha256: hash.digest('hex') };
}

/**
 * The source, left as soon as the signal says so. A pipeline's own signal waits for a generator that waits for
 * its next chunk, for ever if none comes; here the source is told to end and not waited for.
 */
async function* abortable(source: BlobSource, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  const iterator =
    Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let leave: (reason: unknown) => void = () => {};
  const onAbort = () => leave(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        leave = reject;
        Promise.resolve(iterator.next()).then(resolve, reject);
      });
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    // A Readable's iterator waits for the next chunk like any generator; destroying it is what ends it.
    if (source instanceof Readable) source.destroy();
    else Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** A new name is durable only when its folder is, and a new folder when the one above is. */
async function syncFolders(folder: string, firstCreated: string | undefined): Promise<void> {
  const last = firstCreated === undefined ? folder : dirname(firstCreated);
  for (let each = folder; ; each = dirname(each)) {
    await syncFolder(each);
    if (each === last || each === dirname(each)) return;
  }
}

async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return; // It has no fsync for folders.
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}

/** Keys below a folder, in the order of keys: a folder sorts as its name with the slash. */
async function* walk(folder: string, above: string, prefix: string): AsyncGenerator<string> {
  const entries = (await readdir(join(folder, above), { withFileTypes: true }).catch(absent)) ?? [];
  const names = entries
    .filter((entry) => (entry.isFile() || entry.isDirectory()) && !entry.name.startsWith(TEMPORARY))
    .map((entry) => above + entry.name + (entry.isDirectory() ? '/' : ''))
    .sort((a, b) => (a < b ? -1 : 1));
  for (const name of names) {
    if (name.endsWith('/')) {
      if (name.startsWith(prefix) || prefix.startsWith(name)) yield* walk(folder, name, prefix);
    } else if (name.startsWith(prefix)) {
      yield name;
    }
  }
}

async function sweep(folder: string, olderThanMs: number): Promise<number> {
  const entries = await readdir(folder, { recursive: true }).catch(absent);
  let removed = 0;
  for (const entry of entries ?? []) {
    if (!entry.slice(entry.lastIndexOf(sep) + 1).startsWith(TEMPORARY)) continue;
    const path = join(folder, entry);
    const found = await stat(path).catch(absent);
    if (found?.isFile() !== true || Date.now() - found.mtimeMs < olderThanMs) continue;
    await rm(path, { force: true });
    removed += 1;
  }
  return removed;
}

/** What is not there is an answer, no fault; so is a path through something that is no folder. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
