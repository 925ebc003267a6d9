import { buffer } from 'node:stream/consumers';
import { createDiskStore } from '../blobs/disk.ts';
import type { Config } from '../config.ts';
import { type Archives, createArchives } from '../eventstore/archive/archives.ts';

/** The ledger's old parts, in the blob store beside the files of exports. */
export function openArchives({ BLOB_DIR }: Pick<Config, 'BLOB_DIR'>): Archives {
  const blobs = createDiskStore(BLOB_DIR);
  return createArchives({
    async write(file, bytes) {
      await blobs.write(file, [bytes]);
    },
    read: async (file) => buffer(await blobs.read(file)),
  });
}
