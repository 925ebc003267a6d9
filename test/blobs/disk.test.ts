import { mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDiskStore, type DiskStore } from '../../src/blobs/disk.ts';
import { blobStoreConformance } from './conformance.ts';

let folder: string;
let store: DiskStore;

async function open() {
  const made = await mkdtemp(join(tmpdir(), 'millrace-blobs-'));
  folder = made;
  store = createDiskStore(join(made, 'blobs'));
  return { store, close: () => rm(made, { recursive: true, force: true }) };
}

async function files(): Promise<string[]> {
  return (await readdir(join(folder, 'blobs'), { recursive: true })).sort();
}

blobStoreConformance('the disk store', open);

describe('the disk store', () => {
  let close: () => Promise<void>;
  beforeEach(async () => {
    ({ close } = await open());
  });
  afterEach(() => close());

  it('keeps blobs from other users of the machine', async () => {
    await store.write('exports/a.gz', [Buffer.from('x')]);
    expect((await stat(join(folder, 'blobs/exports/a.gz'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, 'blobs/exports'))).mode & 0o777).toBe(0o700);
    expect((await stat(join(folder, 'blobs'))).mode & 0o777).toBe(0o700);
  });

  it('leaves no temporary file behind a write that failed, was aborted or was too large', async () => {
    const failing = (async function* () {
      yield Buffer.from('half');
      throw new Error('no');
    })();
    await store.write('a/failed', failing).catch(() => {});
    const stuck = (async function* () {
      yield Buffer.from('half');
      await new Promise(() => {});
    })();
    await store.write('a/aborted', stuck, { signal: AbortSignal.timeout(20) }).catch(() => {});
    await store.write('a/large', [Buffer.alloc(9)], { maxBytes: 8 }).catch(() => {});
    expect(await files()).toEqual(['a']);
  });

  it('removes what a process that died left half written, and nothing that is being written', async () => {
    await store.write('a/blob', [Buffer.from('x')]);
    const left = join(folder, 'blobs/a/~blob.0011223344556677');
    const fresh = join(folder, 'blobs/a/~blob.8899aabbccddeeff');
    await writeFile(left, 'half');
    await writeFile(fresh, 'half');
    const hoursAgo = new Date(Date.now() - 2 * 3_600_000);
    await utimes(left, hoursAgo, hoursAgo);
    await utimes(join(folder, 'blobs/a/blob'), hoursAgo, hoursAgo);
    expect(await store.sweep()).toBe(1);
    expect(await files()).toEqual(['a', 'a/blob', 'a/~blob.8899aabbccddeeff']);
  });

  it('leaves nothing in a folder that is removed: not even what a process that died left half written', async () => {
    await store.write('a/1/blob', [Buffer.from('x')]);
    await writeFile(join(folder, 'blobs/a/1/~blob.0011223344556677'), 'half');
    expect(await store.removeFolder('a/1/')).toBe(1);
    expect(await files()).toEqual(['a']);
  });

  it('says why it cannot write', async () => {
    await store.write('a', [Buffer.from('x')]);
    await expect(store.write('a/b', [Buffer.from('x')])).rejects.toThrow(/EEXIST|ENOTDIR/);
  });
});
