import { createHmacs, webhookSecrets } from '../access/signing.ts';
import { unsealed } from '../access/unseal.ts';
import { createDiskStore } from '../blobs/disk.ts';
import type { Config } from '../config.ts';
import type { JobDefinition } from '../consumers/define-job.ts';
import { addressCheck } from '../consumers/http-request/addresses.ts';
import { emailRules, features, plainJobs } from '../features.ts';
import type { Parts } from './base.ts';
import { erasureDeps } from './erasing.ts';
import { randomText } from './random.ts';
import { replayDeps } from './replays.ts';
import { settlingDeps } from './settling.ts';
import { peopleOf } from './write-side.ts';

/** All types of jobs with what their handlers need: for a worker, and for the process in which it lets one run alone. */
export function jobDefinitions(config: Config, parts: Pick<Parts, 'db' | 'store'>): JobDefinition[] {
  const { db } = parts;
  const people = peopleOf(config, db);
  return [
    ...plainJobs,
    features.exports.job({
      db,
      archives: parts.store.archives,
      blobs: createDiskStore(config.BLOB_DIR),
      openSealed: (accountId, data) => unsealed(data, (texts) => people.openFor(accountId, texts)),
      randomText,
    }),
    features.webhooks.job({
      destinations: config.HTTP_REQUEST_ALLOW,
      allows: addressCheck(config.HTTP_REQUEST_ALLOW_PRIVATE),
      secretOf: webhookSecrets(createHmacs(config.HMAC_KEY)),
    }),
    ...features['dead-letters'].jobs(settlingDeps(config, parts)),
    features.erasures.job(erasureDeps(config, parts)),
    features.replay.job(replayDeps(config, parts)),
    features.emails.job({ rules: emailRules(config), smtpUrl: config.SMTP_URL }),
  ];
}
