import { holdsSealed, openDeep } from '../access/sealed.ts';
import { createHmacs, webhookSecrets } from '../access/signing.ts';
import { createDiskStore } from '../blobs/disk.ts';
import type { Config } from '../config.ts';
import type { JobDefinition } from '../consumers/define-job.ts';
import { addressCheck } from '../consumers/http-request/addresses.ts';
import { emailRules, features, plainJobs } from '../features.ts';
import type { Parts } from './base.ts';
import { erasureDeps } from './erasing.ts';
import { randomText } from './random.ts';
import { replayDeps } from './replays.ts';
import type { Sealing } from './sealing.ts';
import { settlingDeps } from './settling.ts';
import { verificationDeps } from './verifying.ts';

/** All types of jobs with what their handlers need: for a worker, and for the process in which it lets one run alone. */
export function jobDefinitions(
  config: Config,
  parts: Pick<Parts, 'db' | 'store'>,
  sealing: Pick<Sealing, 'keys'>,
): JobDefinition[] {
  const { db } = parts;
  return [
    ...plainJobs,
    features.exports.job({
      db,
      archives: parts.store.archives,
      blobs: createDiskStore(config.BLOB_DIR),
      openSealed: async (accountId, data) =>
        holdsSealed(data) ? openDeep(await sealing.keys.load(accountId), data) : data,
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
    features.verifications.job(verificationDeps(config)),
    features.emails.job({ rules: emailRules(config), smtpUrl: config.SMTP_URL }),
  ];
}
