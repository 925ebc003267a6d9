import { describe, expect, test } from 'vitest';
import type { Position } from '../../src/domain/position.ts';
import { everyRoute } from './routes.ts';

const overview = {
  ...{ redis: { ok: true }, commits: { stopped: false }, partitions: 4 },
  ...{ processes: {}, groups: [], rebuilding: [] },
};
const nothing = { partitions: [], groups: [], workers: [], projections: [] };

describe('the list of read models', () => {
  test('is not said to be empty while nobody can tell: 503', async () => {
    const away = { ok: false, detail: 'connect ECONNREFUSED' };
    const { app, login } = everyRoute({
      readStanding: async () => ({ ...nothing, overview: { ...overview, postgres: away } }),
    });
    const { authorization } = await login('operator');
    const get = (url: string) => app.inject({ url, headers: { authorization } });
    const response = await get('/v1/ops/projections');
    expect(response.json()).toMatchObject({ status: 503, code: 'read_store_unavailable' });
    expect(response.headers['retry-after']).toBe('1');
    expect((await get('/v1/ops/overview')).statusCode).toBe(200);
  });
});

describe('events that a read model could not apply', () => {
  const parked = [3, 5, 8].map((seq) => ({
    ...{ position: `2.1.${seq}`, row: 'job-1', error: 'no', parkedAt: '2026-11-20T21:47:00.000Z' },
  }));

  async function asking(role: 'user' | 'operator' = 'operator') {
    const seen: (Position | undefined)[] = [];
    const { app, login } = everyRoute({
      async listParked(name, { after, limit }) {
        seen.push(after);
        const left = parked.filter(({ position }) => Number(position.split('.')[2]) > (after?.seq ?? 0));
        return name === 'jobs' ? left.slice(0, limit) : undefined;
      },
    });
    const { authorization } = await login(role);
    return { seen, get: (url: string) => app.inject({ url, headers: { authorization } }) };
  }

  test('are listed page by page, and the cursor is no other list’s', async () => {
    const { seen, get } = await asking();
    const url = '/v1/ops/projections/jobs/parked';
    const first = await get(`${url}?limit=2`);
    expect(first.json()).toMatchObject({ items: parked.slice(0, 2), nextCursor: expect.any(String) });
    const [, next = ''] = /<(.*)>; rel="next"/.exec(String(first.headers.link)) ?? [];
    expect((await get(next)).json()).toEqual({ items: parked.slice(2) });
    expect(seen).toEqual([undefined, { partition: 2, epoch: 1, seq: 5 }]);
    const { nextCursor } = first.json();
    expect((await get(`/v1/ops/projections/accounts/parked?cursor=${nextCursor}`)).statusCode).toBe(400);
    expect((await get(`${url}?cursor=2.1.5`)).statusCode).toBe(400);
  });

  test('of no read model are 404, and nobody’s business but operators’: 403', async () => {
    const { get } = await asking();
    expect((await get('/v1/ops/projections/nothing/parked')).statusCode).toBe(404);
    const user = await asking('user');
    expect((await user.get('/v1/ops/projections/jobs/parked')).statusCode).toBe(403);
    expect(user.seen).toEqual([]);
  });
});
