import {
  type VerificationPayload,
  VerificationResult,
  verificationJobType,
} from '../domain/verifications.ts';
import { defineJob, NoRetryError } from './define-job.ts';

export type VerificationDeps = {
  /** Undefined: there is no such read model. Rejects with the signal's reason once that comes. */
  readonly verify: (
    wanted: VerificationPayload,
    onRead: (events: number) => void,
    signal: AbortSignal,
  ) => Promise<VerificationResult | undefined>;
};

/** The job that folds the ledger anew and compares with a read model. It changes nothing, so a run may come again. */
export function verificationJob({ verify }: VerificationDeps) {
  return defineJob({
    ...verificationJobType,
    result: VerificationResult,
    async run({ job, progress, signal }) {
      let events = 0;
      const onRead = (more: number) => {
        signal.throwIfAborted();
        events += more;
        // How much there is nobody knows beforehand.
        progress(0, { events });
      };
      const verified = await verify(job.payload, onRead, signal);
      if (!verified) throw new NoRetryError(`there is no read model ${job.payload.projection}`);
      return verified;
    },
  });
}
