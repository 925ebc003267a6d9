import { describe, expect, test } from 'vitest';
import type { CommandContext } from '../../src/commands/handle.ts';
import { refuse } from '../../src/domain/decision.ts';
import { done, everyRoute, jobId } from './routes.ts';

const from = '2026-11-20T10:00:00.000Z';

async function replays(role: 'user' | 'operator' = 'operator') {
  const asked: { context: CommandContext; wanted: object }[] = [];
  const { app, login } = everyRoute({
    async requestReplay(context, wanted) {
      if (wanted.plan === 'old') return { kind: 'refused', ...refuse('plan_stale', 'Events have come.') };
      if (wanted.group !== 'notifier') {
        return { kind: 'refused', ...refuse('not_replayable', 'To make it anew: a rebuild.') };
      }
      asked.push({ context, wanted });
      return done({ id: jobId, version: 1, status: 'queued' });
    },
  });
  const { authorization, accountId } = await login(role);
  const post = (payload: object, group = 'notifier', query = '') =>
    app.inject({
      method: 'POST',
      url: `/v1/ops/groups/${group}/replay${query}`,
      headers: { authorization, 'content-type': 'application/json' },
      payload: JSON.stringify({ reason: 'they lost it', ...payload }),
    });
  return { asked, accountId, post };
}

describe('asking for a replay', () => {
  test('of a plan is answered with the job that does it; side effects are off unless asked for', async () => {
    const { post, asked, accountId } = await replays();
    const response = await post({ from, plan: 'd' });
    expect([response.statusCode, response.headers.location]).toEqual([202, `/v1/jobs/${jobId}`]);
    // Nothing is done that would have to be confirmed.
    expect((await post({ from, sideEffects: 'off' })).statusCode).toBe(202);
    await post({ from, to: '2026-11-20T12:00:00Z', types: ['JobCancelled'], sideEffects: 'on', plan: 'd' });
    await post({ from, sideEffects: 'on', rate: 3, plan: 'd' });
    const context = { actor: accountId, reason: 'they lost it' };
    const bounds = { group: 'notifier', from: new Date(from), plan: 'd' };
    expect(asked).toMatchObject([
      { context, wanted: { ...bounds, sideEffects: 'off', rate: 1_000 } },
      { context, wanted: { group: 'notifier', from: new Date(from), sideEffects: 'off', rate: 1_000 } },
      {
        context,
        wanted: {
          ...{ ...bounds, to: new Date('2026-11-20T12:00:00Z'), types: ['JobCancelled'] },
          ...{ sideEffects: 'on', rate: 50 },
        },
      },
      { context, wanted: { ...bounds, sideEffects: 'on', rate: 3 } },
    ]);
  });

  test('as a dry run is answered with the plan, and asks for nothing', async () => {
    const { post, asked } = await replays();
    const response = await post({ from }, 'notifier', '?dryRun=true');
    expect([response.statusCode, response.json()]).toMatchObject([200, { digest: 'd', events: 0, jobs: {} }]);
    expect(asked).toEqual([]);
  });

  test('with a stale plan, or of a read model, is refused: 409', async () => {
    const { post } = await replays();
    expect((await post({ from, plan: 'old' })).json()).toMatchObject({ status: 409, code: 'plan_stale' });
    const model = await post({ from, plan: 'd' }, 'projection:jobs@2');
    expect(model.json()).toMatchObject({ status: 409, code: 'not_replayable' });
  });

  test.each([
    { from, sideEffects: 'on' },
    { plan: 'd' },
    { from: 'yesterday', plan: 'd' },
    { from, to: '2026-11-20T09:00:00Z', plan: 'd' },
    { from, plan: 'd', reason: ' ' },
    { from, plan: 'd', rate: 0 },
    { from, plan: 'd', sideEffects: 'some' },
    { from, plan: 'd', types: [] },
    { from, plan: 'd', other: 1 },
  ])('with %j is refused: 400', async (body) => {
    const { post, asked } = await replays();
    expect((await post(body)).statusCode).toBe(400);
    expect(asked).toEqual([]);
  });

  test('is nobody else’s business: 403', async () => {
    const { post, asked } = await replays('user');
    expect((await post({ from, plan: 'd' })).statusCode).toBe(403);
    expect(asked).toEqual([]);
  });
});
