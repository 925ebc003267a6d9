import { describe, expect, it } from 'vitest';
import { registerAccount } from '../../src/commands/accounts.ts';
import { eraseAccount } from '../../src/commands/erasures.ts';
import { requestExport } from '../../src/commands/exports.ts';
import type { CommandDeps } from '../../src/commands/handle.ts';
import { exportFold } from '../../src/domain/exports.ts';
import { jobFold } from '../../src/domain/jobs/state.ts';
import { parsePosition } from '../../src/domain/position.ts';
import { context, writeSide } from './support.ts';

const input = { dataset: 'events', format: 'ndjson', scope: 'own' } as const;
const asAda = (key?: string) => ({ ...context(key), actor: 'acc-00ada', owner: 'acc-00ada' });

describe('asking for an export', () => {
  it('enqueues its job and records the request in one commit', async () => {
    const { deps, store } = await writeSide();
    const result = await requestExport(deps, asAda(), input);
    if (result.kind !== 'done') throw new Error('refused');
    const { id, jobId } = result.body;
    const job = await store.load(jobId, jobFold);
    const request = await store.load(id, exportFold);
    expect(job.state).toMatchObject({
      phase: 'queued',
      spec: { type: 'export', owner: 'acc-00ada', payload: { exportId: id } },
    });
    expect(request).toMatchObject({ state: { phase: 'requested' }, version: 1 });
    expect(request.lastSeq).toBe(job.lastSeq + 1);
    expect(parsePosition(result.position)?.seq).toBe(request.lastSeq);
  });

  it('is refused to somebody who was erased since their request came in', async () => {
    const { deps } = await writeSide();
    const ada = { email: 'ada@example.com', password: 'correct horse battery', name: 'Ada' };
    const made = await registerAccount(deps, context(), ada);
    if (made.kind !== 'done') throw new Error('refused');
    const { id: owner } = made.body;
    await eraseAccount(deps, context(), { accountId: owner });
    expect(await requestExport(deps, { ...context(), owner }, input)).toMatchObject({
      kind: 'refused',
      refusal: { code: 'account_erased' },
    });
  });

  it('is one export for one key, however many ask at once', async () => {
    const { deps } = await writeSide();
    const results = await Promise.all(
      Array.from({ length: 20 }, () => requestExport(deps, asAda('k'), input)),
    );
    const ids = new Set(results.map((result) => (result.kind === 'done' ? result.body.id : result.kind)));
    expect(ids.size).toBe(1);
    expect(new Set(results.map((result) => (result.kind === 'done' ? result.position : ''))).size).toBe(1);
    expect(results.filter((result) => result.kind === 'done' && !result.replayed)).toHaveLength(1);
    expect((await deps.store.heads()).reduce((sum, head) => sum + head, 0)).toBe(2);
  });

  it('decides again when its commit meets a conflict, and says that nothing was done when it always does', async () => {
    const { deps } = await writeSide();
    let conflicts = 3;
    const contended: CommandDeps = {
      ...deps,
      store: {
        ...deps.store,
        commit: async (request) => {
          if (request.appends.length === 0 || conflicts-- <= 0) return deps.store.commit(request);
          const [first] = request.appends;
          if (!first) throw new Error('no append');
          return { kind: 'conflict', streamId: first.streamId };
        },
      },
    };
    expect(await requestExport(contended, asAda(), input)).toMatchObject({ kind: 'done' });
    conflicts = 1_000;
    await expect(requestExport(contended, asAda(), input)).rejects.toMatchObject({
      name: 'StoreUnavailableError',
    });
  });
});
