import { describe, expect, test } from 'vitest';
import type { CommandContext } from '../../src/commands/handle.ts';
import { refuse } from '../../src/domain/decision.ts';
import { done, everyRoute } from './routes.ts';

async function groups(role: 'user' | 'operator' = 'operator') {
  const changes: { context: CommandContext; change: string; group: string }[] = [];
  const { app, login } = everyRoute({
    async changeGroup(context, change, group) {
      if (group === 'ledger') {
        return { kind: 'refused', ...refuse('group_not_pausable', 'The ledger is never paused.') };
      }
      changes.push({ context, change, group });
      return done({ id: group, version: 1, paused: change === 'pause' });
    },
    foreseeGroupChange: async (change) => ({ ok: true, changes: change === 'pause' }),
  });
  const { authorization, accountId } = await login(role);
  const post = (url: string, payload: unknown = { reason: 'their server is moving' }) =>
    app.inject({
      method: 'POST',
      url,
      headers: { authorization, 'content-type': 'application/json' },
      payload: JSON.stringify(payload),
    });
  return { changes, accountId, post };
}

describe('pausing a group', () => {
  test('is done by an operator, with a reason; a read model is named by its own name', async () => {
    const { post, changes, accountId } = await groups();
    const response = await post('/v1/ops/groups/notifier/pause');
    expect([response.statusCode, response.json()]).toEqual([
      202,
      { id: 'notifier', version: 1, paused: true },
    ]);
    await post('/v1/ops/groups/projection:jobs@2/resume');
    await post('/v1/ops/projections/jobs/pause');
    const context = { actor: accountId, reason: 'their server is moving' };
    expect(changes).toMatchObject([
      { group: 'notifier', change: 'pause', context },
      { group: 'projection:jobs@2', change: 'resume', context },
      { group: 'projection:jobs@2', change: 'pause', context },
    ]);
  });

  test('is nobody else’s business: 403', async () => {
    const { post, changes } = await groups('user');
    for (const url of ['/v1/ops/groups/notifier/pause', '/v1/ops/projections/jobs/resume']) {
      expect((await post(url)).statusCode).toBe(403);
    }
    expect(changes).toEqual([]);
  });

  test('is refused for the ledger: 409; and for what there is not: 404', async () => {
    const { post } = await groups();
    const refused = await post('/v1/ops/groups/ledger/pause');
    expect([refused.statusCode, refused.json().code]).toEqual([409, 'group_not_pausable']);
    expect((await post('/v1/ops/projections/nothing/pause')).statusCode).toBe(404);
  });

  test.each([{}, { reason: ' ' }, { reason: 'a', b: 1 }])('is refused with %j: 400', async (body) => {
    const { post, changes } = await groups();
    expect((await post('/v1/ops/groups/notifier/pause', body)).statusCode).toBe(400);
    expect(changes).toEqual([]);
  });

  test('as a dry run says whether it would change anything, and changes nothing', async () => {
    const { post, changes } = await groups();
    const pause = await post('/v1/ops/groups/notifier/pause?dryRun=true');
    expect([pause.statusCode, pause.json()]).toEqual([
      200,
      { count: 1, sample: [{ id: 'notifier', status: 'running' }] },
    ]);
    expect((await post('/v1/ops/groups/notifier/resume?dryRun=true')).json()).toEqual({
      count: 0,
      sample: [],
    });
    expect(changes).toEqual([]);
  });
});
