import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BlobNotFound, type BlobStore, BlobTooLarge, RangeNotSatisfiable } from '../../src/blobs/blobs.ts';

const text = (value: string) => [Buffer.from(value)];
const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');

async function contentOf(
  store: BlobStore,
  key: string,
  range?: { start: number; end?: number },
): Promise<string> {
  return Buffer.concat(await (await store.read(key, range)).toArray()).toString();
}

async function keysOf(store: BlobStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys;
}

/**
 * What every blob store promises; each implementation runs it.
 *
 * @param open makes an empty store of its own for one test
 */
export function blobStoreConformance(
  name: string,
  open: () => Promise<{ store: BlobStore; close(): Promise<void> }>,
): void {
  let store: BlobStore;
  let close: () => Promise<void>;

  beforeEach(async () => {
    ({ store, close } = await open());
  });
  afterEach(() => close());

  describe(`${name}, as every blob store,`, () => {
    it('gives back what it was given, and says size and hash', async () => {
      const content = randomBytes(3_000_000);
      const written = await store.write(
        'exports/01ab.gz',
        Readable.from([content.subarray(0, 7), content.subarray(7)]),
      );
      expect(written).toEqual({ bytes: content.length, sha256: sha256(content) });
      expect(await store.stat('exports/01ab.gz')).toEqual({ bytes: content.length });
      expect(Buffer.concat(await (await store.read('exports/01ab.gz')).toArray()).equals(content)).toBe(true);
    });

    it('removes a folder with all that is in it, and with what is being written there', async () => {
      await store.write('exports/1/a.gz', text('a'));
      await store.write('exports/1/more/b.gz', text('b'));
      await store.write('exports/10/c.gz', text('c'));
      const { promise: goesOn, resolve: goOn } = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      async function* slow() {
        yield Buffer.from('half');
        begun.resolve();
        await goesOn;
        yield Buffer.from('and half');
      }
      const writing = store.write('exports/1/d.gz', slow());
      const settled = writing.then(
        () => 'written',
        () => 'rejected',
      );
      await begun.promise;
      expect(await store.removeFolder('exports/1/')).toBe(2);
      goOn();
      expect(await settled).toBe('rejected');
      expect(await keysOf(store, '')).toEqual(['exports/10/c.gz']);
      expect(await store.removeFolder('exports/1/')).toBe(0);
      await store.write('exports/1/a.gz', text('anew'));
      expect(await contentOf(store, 'exports/1/a.gz')).toBe('anew');
    });

    it('keeps an empty blob', async () => {
      expect(await store.write('empty', [])).toEqual({ bytes: 0, sha256: sha256(Buffer.alloc(0)) });
      expect(await store.stat('empty')).toEqual({ bytes: 0 });
      expect(await contentOf(store, 'empty')).toBe('');
    });

    it.each([
      [{ start: 2, end: 4 }, '234'],
      [{ start: 7 }, '789'],
      [{ start: 8, end: 500 }, '89'],
      [{ start: 0, end: 0 }, '0'],
    ])('reads a range, both ends inclusive: %j', async (range, expected) => {
      await store.write('digits', text('0123456789'));
      expect(await contentOf(store, 'digits', range)).toBe(expected);
    });

    it.each([{ start: 10 }, { start: 5, end: 4 }, { start: -1 }])(
      'refuses the range %j of ten bytes',
      async (range) => {
        await store.write('digits', text('0123456789'));
        await expect(store.read('digits', range)).rejects.toBeInstanceOf(RangeNotSatisfiable);
      },
    );

    it('says when there is no such blob', async () => {
      await store.write('folder/blob', text('x'));
      for (const key of ['nothing', 'folder', 'folder/blob/deeper']) {
        await expect(store.read(key)).rejects.toBeInstanceOf(BlobNotFound);
        expect(await store.stat(key)).toBeUndefined();
      }
    });

    it('replaces a blob as a whole, while readers go on with the former one', async () => {
      await store.write('same', text('former'));
      const reading = await store.read('same');
      await store.write('same', text('later'));
      expect(Buffer.concat(await reading.toArray()).toString()).toBe('former');
      expect(await contentOf(store, 'same')).toBe('later');
    });

    it('removes a blob, also one that is not there', async () => {
      await store.write('gone', text('x'));
      await store.remove('gone');
      await store.remove('gone');
      expect(await store.stat('gone')).toBeUndefined();
    });

    it('lists what begins with a prefix, in the order of keys', async () => {
      for (const key of ['a/2', 'a/10', 'a-b', 'a/1/x', 'b', 'ab/c']) await store.write(key, text(key));
      expect(await keysOf(store, '')).toEqual(['a-b', 'a/1/x', 'a/10', 'a/2', 'ab/c', 'b']);
      expect(await keysOf(store, 'a/')).toEqual(['a/1/x', 'a/10', 'a/2']);
      expect(await keysOf(store, 'a/1')).toEqual(['a/1/x', 'a/10']);
      expect(await keysOf(store, 'nothing/here')).toEqual([]);
    });

    it.each([
      ...[
        '',
        '/etc/passwd',
        '../up',
        'a/../../up',
        'a..b',
        './a',
        'a/./b',
        'a//b',
        'a/',
        'a\\b',
        'a\u0000b',
        'Upper',
      ],
      ...[
        '~tmp',
        '.hidden',
        'a/.hidden',
        'a b',
        'ä',
        '%2e%2e/up',
        'x/'.repeat(256).concat('x'),
        'y'.repeat(201),
      ],
    ])('refuses the key %.20j, whatever is asked', async (key) => {
      const refused = { name: 'InvalidBlobKey' };
      await expect(store.write(key, text('x'))).rejects.toMatchObject(refused);
      await expect(store.read(key)).rejects.toMatchObject(refused);
      await expect(store.stat(key)).rejects.toMatchObject(refused);
      await expect(store.remove(key)).rejects.toMatchObject(refused);
    });

    it('shows nothing of a blob before it is complete', async () => {
      const more = Promise.withResolvers<void>();
      const writing = store.write(
        'slow',
        (async function* () {
          yield randomBytes(1_000_000);
          await more.promise;
          yield Buffer.from('end');
        })(),
      );
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(await store.stat('slow')).toBeUndefined();
      expect(await keysOf(store, '')).toEqual([]);
      more.resolve();
      expect(await writing).toMatchObject({ bytes: 1_000_003 });
      expect(await store.stat('slow')).toEqual({ bytes: 1_000_003 });
    });

    it('keeps the former blob when its source fails', async () => {
      await store.write('kept', text('former'));
      const failing = (async function* () {
        yield Buffer.from('half');
        throw new RangeError('source failed');
      })();
      await expect(store.write('kept', failing)).rejects.toThrow('source failed');
      expect(await contentOf(store, 'kept')).toBe('former');
    });

    it('stops at once when it is aborted, also while its source gives nothing', async () => {
      const stuck = (async function* () {
        yield Buffer.from('half');
        await new Promise(() => {});
      })();
      const abort = new AbortController();
      const writing = store.write('aborted', stuck, { signal: abort.signal });
      setTimeout(() => abort.abort(new Error('cancelled by its owner')), 20);
      await expect(writing).rejects.toThrow('cancelled by its owner');
      expect(await store.stat('aborted')).toBeUndefined();
      await expect(store.write('aborted', text('x'), { signal: abort.signal })).rejects.toThrow('cancelled');
    });

    it('lets its source go when it stops', async () => {
      const source = new Readable({ read() {} });
      source.push(Buffer.from('half'));
      await expect(store.write('let-go', source, { signal: AbortSignal.timeout(20) })).rejects.toThrow();
      await vi.waitFor(() => expect(source.destroyed).toBe(true), 10_000);
    });

    it('lets its source go also when it does not begin', async () => {
      const unread = new Readable({ read() {} });
      await expect(
        store.write('never', unread, { signal: AbortSignal.abort(new Error('no')) }),
      ).rejects.toThrow('no');
      expect(unread.destroyed).toBe(true);
      const other = new Readable({ read() {} });
      await expect(store.write('../up', other)).rejects.toThrow();
      expect(other.destroyed).toBe(true);
    });

    it('takes no more than it may', async () => {
      expect(await store.write('just', text('12345'), { maxBytes: 5 })).toMatchObject({ bytes: 5 });
      await expect(store.write('more', text('123456'), { maxBytes: 5 })).rejects.toBeInstanceOf(BlobTooLarge);
      expect(await store.stat('more')).toBeUndefined();
    });

    it('reads its source no faster than it can store', async () => {
      let ahead = 0;
      let most = 0;
      const chunk = Buffer.alloc(65_536);
      const source = new Readable({
        highWaterMark: 1,
        read() {
          ahead += 1;
          most = Math.max(most, process.memoryUsage().arrayBuffers);
          this.push(ahead > 1_600 ? null : Buffer.from(chunk));
        },
      });
      const before = process.memoryUsage().arrayBuffers;
      expect(await store.write('large', source)).toMatchObject({ bytes: 1_600 * 65_536 });
      expect(most - before).toBeLessThan(60_000_000);
    });

    it('lets the later of two writers of one key win, whole', async () => {
      const contents = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(500_000));
      await Promise.all(contents.map((content) => store.write('raced', text(content))));
      expect(contents).toContain(await contentOf(store, 'raced'));
    });

    it('holds nothing open for a reader that leaves', async () => {
      await store.write('left', [randomBytes(1_000_000)]);
      const reading = await store.read('left');
      reading.destroy();
      await vi.waitFor(() => expect(reading.closed).toBe(true), 10_000);
    });
  });
}
