import { createHmacs, webhookSecrets } from '../access/signing.ts';
import { unsealed } from '../access/unseal.ts';
import { createDiskStore } from '../blobs/disk.ts';
import { addressCheck } from '../consumers/http-request/addresses.ts';
import { startWorkers } from '../consumers/workers.ts';
import { features, plainJobs } from '../features.ts';
import { type Base, openParts, type Role } from './base.ts';
import { roleDeps, roleOf } from './consuming.ts';
import { randomText } from './random.ts';
import { commandBasics, hexHmac, peopleOf } from './write-side.ts';

/** The part of a shutdown's time that jobs have; the rest is for handing over what is left of them. */
const DRAIN_JOBS = 0.9;

/** Workers: the lanes and the jobs that they run. */
export async function startWorkerRole(base: Base): Promise<Role> {
  const { config } = base;
  const parts = await openParts(base, 'workers');
  const { db, store } = parts;
  const people = peopleOf(config, db);
  const hmac = createHmacs(config.HMAC_KEY);
  const running = await startWorkers({
    ...roleDeps(base, parts, 'workers'),
    ...commandBasics,
    hmac: hexHmac(hmac),
    jobs: [
      ...plainJobs,
      features.exports.job({
        db,
        blobs: createDiskStore(config.BLOB_DIR),
        openSealed: (accountId, data) => unsealed(data, (texts) => people.openFor(accountId, texts)),
        randomText,
      }),
      features.webhooks.job({
        destinations: config.HTTP_REQUEST_ALLOW,
        allows: addressCheck(config.HTTP_REQUEST_ALLOW_PRIVATE),
        secretOf: webhookSecrets(hmac),
      }),
    ],
    concurrency: config.WORKER_CONCURRENCY,
    drainMs: config.SHUTDOWN_SECONDS * 1000 * DRAIN_JOBS,
    random: Math.random,
  });
  return roleOf('workers', running, { db, store }, parts.close);
}
