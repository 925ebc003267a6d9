import type { RawEvent } from '../../src/domain/event.ts';
import type { EventId } from '../../src/domain/ids.ts';
import { jobId } from './routes.ts';

/** Whose job it is: of the account that a test says. */
export const owner = { accountId: '' };

/** An event of the job, as the ledger has it. */
export function event(version: number, type = 'JobProgressed', data: object = {}): RawEvent {
  return {
    partition: 3,
    epoch: 1,
    seq: version * 10,
    id: `e${version}` as EventId,
    streamId: jobId,
    version,
    type,
    data: JSON.stringify({ type: 'echo', ...data }),
    meta: JSON.stringify({
      schema: 1,
      at: '2026-11-20T21:47:00.000Z',
      actor: 'system:worker',
      owner: owner.accountId,
      correlation: 'c',
    }),
  };
}
