import type { Kysely, Selectable } from 'kysely';
import type { StreamId } from '../../domain/ids.ts';
import type { LedgerTables } from '../tables.ts';
import { type ArchivedEvent, decodeArchive, sha256Of } from './format.ts';

/** Where the files of the archive lie. `write` resolves when the file is durable; `read` throws where there is none. */
export type ArchiveFiles = {
  write(file: string, bytes: Uint8Array): Promise<void>;
  read(file: string): Promise<Uint8Array>;
};

/** A row of `ledger_archives`. */
export type Archive = Selectable<LedgerTables['ledger_archives']>;

/** Old parts of the ledger, read through. */
export type Archives = {
  readonly files: ArchiveFiles;
  /** All events of an archive, by seq. Throws `ArchiveDamagedError` where the file is not what was written. */
  read(archive: Pick<Archive, 'file' | 'sha256'>): Promise<readonly ArchivedEvent[]>;
  /** The highest seq of a partition that is known to lie in a file: no more than a hint where to look first. */
  knownEnd(partition: number): number;
};

/** A file of the archive is gone, or holds other bytes than were written. */
export class ArchiveDamagedError extends Error {
  override readonly name = 'ArchiveDamagedError';
  readonly file: string;
  constructor(file: string, what: string, options?: ErrorOptions) {
    super(`the ledger's archive ${file} ${what}: give it back from a backup of the blob store`, options);
    this.file = file;
  }
}

/** Events lie in files, and whoever asked was not given any. */
export class ArchivedError extends Error {
  override readonly name = 'ArchivedError';
}

/** Files that are kept decoded: who reads on through one asks for a page at a time. */
const KEEP = 4;

export function createArchives(files: ArchiveFiles): Archives {
  const kept = new Map<string, Promise<readonly ArchivedEvent[]>>();
  const ends = new Map<number, number>();

  async function load(file: string, sha256: string): Promise<readonly ArchivedEvent[]> {
    const bytes = await files.read(file).catch((error: unknown) => {
      throw new ArchiveDamagedError(file, 'cannot be read', { cause: error });
    });
    if (sha256Of(bytes) !== sha256)
      throw new ArchiveDamagedError(file, 'holds other bytes than were written');
    const events = await decodeArchive(bytes);
    const last = events.at(-1);
    if (last) ends.set(last.partition, Math.max(last.seq, ends.get(last.partition) ?? 0));
    return events;
  }

  return {
    files,
    read({ file, sha256 }) {
      const loading = kept.get(file) ?? load(file, sha256);
      kept.delete(file);
      kept.set(file, loading);
      loading.catch(() => kept.delete(file));
      for (const oldest of kept.keys()) {
        if (kept.size <= KEEP) break;
        kept.delete(oldest);
      }
      return loading;
    },
    knownEnd: (partition) => ends.get(partition) ?? 0,
  };
}

/** The first archive of a partition that goes beyond a seq; with an owner, the first that has events of theirs. */
export function nextArchive(
  db: Kysely<LedgerTables>,
  range: {
    readonly partition: number;
    readonly after: number;
    readonly upTo?: number;
    readonly owner?: string;
  },
): Promise<Archive | undefined> {
  const { partition, after, upTo, owner } = range;
  let query = db
    .selectFrom('ledger_archives')
    .selectAll()
    .where('partition', '=', partition)
    .where('last_seq', '>', after)
    .orderBy('last_seq')
    .limit(1);
  if (upTo !== undefined) query = query.where('first_seq', '<=', upTo);
  if (owner !== undefined) {
    query = query.where(({ exists, selectFrom }) =>
      exists(
        selectFrom('archived_owners')
          .select('events')
          .whereRef('archived_owners.partition', '=', 'ledger_archives.partition')
          .whereRef('archived_owners.archive', '=', 'ledger_archives.last_seq')
          .where('owner', '=', owner),
      ),
    );
  }
  return query.executeTakeFirst();
}

/** Where the versions of a stream after this one lie, as far as they are in files, oldest first. */
export function archivesOf(
  db: Kysely<LedgerTables>,
  streamId: StreamId,
  afterVersion: number,
): Promise<Pick<Archive, 'file' | 'sha256'>[]> {
  return db
    .selectFrom('archived_streams')
    .innerJoin('ledger_archives', (join) =>
      join
        .onRef('ledger_archives.partition', '=', 'archived_streams.partition')
        .onRef('ledger_archives.last_seq', '=', 'archived_streams.archive'),
    )
    .select(['file', 'sha256'])
    .where('stream_id', '=', streamId)
    .where('last_version', '>', afterVersion)
    .orderBy('last_version')
    .execute();
}
