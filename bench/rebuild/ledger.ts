import { type Kysely, sql } from 'kysely';
import type { Database } from '../../src/projections/database.ts';

/** Jobs whose events arrive interleaved, as of so many at once. */
const WAVE = 500;

/** A ledger of jobs, made by Postgres itself: enqueued, started, progress, completed. Without its hash chain. */
export async function fillLedger(
  db: Kysely<Database>,
  {
    partitions,
    jobs,
    eventsOfAJob,
  }: { readonly partitions: number; readonly jobs: number; readonly eventsOfAJob: number },
): Promise<void> {
  const ofPartition = jobs / partitions;
  for (let partition = 0; partition < partitions; partition++) {
    const tag = partition.toString(36).padStart(2, '0');
    await sql`
      INSERT INTO ledger (partition, seq, epoch, event_id, stream_id, version, type, owner, correlation, recorded_at, data, meta)
      SELECT ${partition}, row_number() OVER (ORDER BY wave, version, job), 1, 'e' || ${partition} || '.' || job || '.' || version,
        'job-' || ${tag} || substr(md5(${partition} || '/' || job), 1, 20), version,
        CASE version WHEN 1 THEN 'JobEnqueued' WHEN 2 THEN 'JobStarted' WHEN ${eventsOfAJob} THEN 'JobCompleted'
          ELSE 'JobProgressed' END,
        'acc-1', 'c0ffee', now(),
        CASE version
          WHEN 1 THEN '{"type":"echo","payload":{"text":"' || md5(job::text) || '"},"queue":"default","priority":"normal","maxAttempts":3,"timeoutSeconds":60}'
          WHEN 2 THEN '{"type":"echo","attempt":1,"worker":"worker-1#0123456789ab","recovered":false}'
          WHEN ${eventsOfAJob} THEN '{"type":"echo","attempt":1,"result":{"text":"' || md5(job::text) || '"}}'
          ELSE '{"type":"echo","progress":' || version || '}' END,
        '{"schema":1,"at":"2026-11-20T12:34:56.789Z","actor":"acc-1","owner":"acc-1","correlation":"c0ffee"}'
      FROM (
        SELECT job, job / ${WAVE}::int AS wave, version
        FROM generate_series(0, ${ofPartition - 1}::int) AS job, generate_series(1, ${eventsOfAJob}::int) AS version
      ) AS events`.execute(db);
  }
  await sql`
    INSERT INTO checkpoints (group_name, partition, epoch, seq)
    SELECT 'ledger', p, 1, ${ofPartition * eventsOfAJob} FROM generate_series(0, ${partitions - 1}::int) AS p`.execute(
    db,
  );
  await sql`ANALYZE ledger`.execute(db);
}
