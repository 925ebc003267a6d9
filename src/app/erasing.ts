import { forgetErased } from '../access/people.ts';
import { KEY_MS } from '../access/person-keys.ts';
import { createDiskStore } from '../blobs/disk.ts';
import type { Config } from '../config.ts';
import type { ErasureDeps } from '../consumers/erasures.ts';
import { filesOf } from '../domain/exports.ts';
import { exportsOfErased } from '../projections/erasures.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Db, Parts } from './base.ts';
import { peopleOf } from './people.ts';
import { settlingDeps } from './settling.ts';

const PAGE = 500;
/** A Postgres that was restored has keys again of persons who were erased since: so long at most. */
const AGAIN_MS = 60_000;

/** Until no process has the key any more, and what was sealed with it last is committed. */
const SETTLE_MS = KEY_MS + 1_000;

/** What the job needs that erases a person. */
export function erasureDeps(config: Config, { db, store }: Pick<Parts, 'db' | 'store'>): ErasureDeps {
  return {
    db,
    archives: store.archives,
    blobs: createDiskStore(config.BLOB_DIR),
    commands: settlingDeps(config, { db, store }).commands,
    forget: peopleOf(config, db).forget,
    settleMs: SETTLE_MS,
  };
}

export type Reapplied = { readonly people: number; readonly files: number };

/**
 * Erases again who was erased: what a restored database, or blob store, brought back.
 * @returns of how many people there was a key or a password, and how many files
 */
export async function reapplyErasures(config: Pick<Config, 'BLOB_DIR'>, db: Db): Promise<Reapplied> {
  const people = (await forgetErased(db)).length;
  const blobs = createDiskStore(config.BLOB_DIR);
  let files = 0;
  for (let after = ''; ; ) {
    const exports = await exportsOfErased(db, { after, limit: PAGE });
    for (const id of exports) files += await blobs.removeFolder(filesOf(id));
    const last = exports.at(-1);
    if (last === undefined || exports.length < PAGE) return { people, files };
    after = last;
  }
}

/** Sees to it, from now on, that nobody who was erased has a key. */
export function keepErased(db: Db, logger: Logger, everyMs = AGAIN_MS): { stop(): void } {
  const round = () =>
    forgetErased(db).then(
      (accounts) => {
        if (accounts.length > 0)
          logger.warn({ accounts: accounts.length }, 'erased once more, after a restore');
      },
      (err: unknown) => logger.debug({ err }, 'erasures could not be looked after'),
    );
  const timer = setInterval(round, everyMs);
  void round();
  return { stop: () => clearInterval(timer) };
}
