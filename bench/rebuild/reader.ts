// Queries one job after another, until it is told to stop; then says how long that took.
import { parentPort, workerData } from 'node:worker_threads';
import { sql } from 'kysely';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import type { Database } from '../../src/projections/database.ts';
import { findJob } from '../../src/projections/jobs/queries.ts';

export type Read = {
  readonly reads: number;
  readonly readP50Ms: number;
  readonly readP99Ms: number;
  readonly readMaxMs: number;
};

const db = openDatabase<Database>({ url: workerData.url, max: 1, applicationName: 'bench-reader' });
const { rows } = await sql<{ id: string }>`SELECT id FROM jobs_v2 ORDER BY random() LIMIT 2000`.execute(db);
let on = true;
parentPort?.once('message', () => {
  on = false;
});
parentPort?.postMessage('ready');
const took: number[] = [];
for (let n = 0; on; n++) {
  const begun = performance.now();
  if (!(await findJob(db, rows[n % rows.length]?.id ?? ''))) throw new Error('a job was not found');
  took.push(performance.now() - begun);
  await new Promise((resolve) => setTimeout(resolve, 2));
}
took.sort((a, b) => a - b);
const at = (share: number) => Math.round((took[Math.floor((took.length - 1) * share)] ?? 0) * 100) / 100;
const read: Read = { reads: took.length, readP50Ms: at(0.5), readP99Ms: at(0.99), readMaxMs: at(1) };
parentPort?.postMessage(read);
await db.destroy();
