import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openParts, type Parts } from '../../src/app/base.ts';
import { createTrimmer } from '../../src/consumers/trimmer.ts';
import { LEDGER_GROUP } from '../../src/eventstore/checkpoints.ts';
import { baseOf } from './base.ts';
import { databaseUrl } from './places.ts';
import { profiling } from './profiling.ts';

/** As an installation keeps it. */
const WINDOW_EVENTS = 1_000;

/** Ledger and projections of a place, in a process of their own as an installation has them. */
export async function startProjecting(place: string) {
  const projectors = spawn(process.execPath, [...profiling(place), 'src/main.ts', '--roles', 'projectors'], {
    cwd: join(import.meta.dirname, '../..'),
    env: {
      ...process.env,
      KEY_PREFIX: place,
      DATABASE_URL: databaseUrl(place),
      LOG_LEVEL: 'error',
      INSTANCE_ID: `${place}-projectors`,
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return {
    /** Until the ledger has all, and the log is trimmed to what stays in it for a while. */
    async settle(): Promise<void> {
      const parts = await openParts(baseOf(place), 'bench-settle');
      while (!(await caughtUp(parts, [LEDGER_GROUP]))) await sleep(20);
      const trimmer = createTrimmer({ ...parts, windowEvents: WINDOW_EVENTS, retentionMs: 0 });
      for (const { partition } of parts.store.keys) {
        while ((await trimmer.trim(partition)).trimmed > 0);
      }
      await parts.close();
    },
    async stop(): Promise<void> {
      if (projectors.exitCode !== null) return;
      projectors.kill('SIGTERM');
      await once(projectors, 'exit');
    },
  };
}

/** Whether these groups have applied every event that is in the log now. */
export async function caughtUp({ db, store }: Pick<Parts, 'db' | 'store'>, groups: readonly string[]) {
  const heads = await store.heads();
  const rows = await db
    .selectFrom('checkpoints')
    .select(['group_name', 'partition', 'seq'])
    .where('group_name', 'in', groups)
    .execute();
  const at = new Map(rows.map((row) => [`${row.group_name} ${row.partition}`, row.seq]));
  return groups.every((group) =>
    heads.every((head, partition) => (at.get(`${group} ${partition}`) ?? 0) >= head),
  );
}
