import { describe, expect, it } from 'vitest';
import { registerAccount } from '../../src/commands/accounts.ts';
import { endSession, login, refreshSession } from '../../src/commands/sessions.ts';
import { sessionFold } from '../../src/domain/sessions.ts';
import { context, writeSide } from './support.ts';

const ada = { email: 'ada@example.com', password: 'correct horse battery', name: 'Ada' };

async function loggedIn(now?: () => Date) {
  const side = await writeSide(now);
  await registerAccount(side.deps, context(), ada);
  const session = await login(side.deps, context(), ada);
  if (session.kind !== 'done' || !session.refreshToken) throw new Error('not logged in');
  return { ...side, id: session.body.id, refreshToken: session.refreshToken };
}

describe('logging in', () => {
  it('refuses a wrong password and an unknown email alike', async () => {
    const { deps } = await loggedIn();
    const wrong = await login(deps, context(), { ...ada, password: 'something else entirely' });
    const unknown = await login(deps, context(), { ...ada, email: 'nobody@example.com' });
    expect(wrong).toEqual(unknown);
    expect(wrong).toMatchObject({ kind: 'refused', refusal: { code: 'wrong_credentials' } });
  });

  it('gives its refresh token once: the answer of a repeated key has none', async () => {
    const { deps } = await loggedIn();
    const first = await login(deps, context('k'), ada);
    const again = await login(deps, context('k'), ada);
    expect(first).toMatchObject({ kind: 'done', replayed: false, refreshToken: expect.any(String) });
    expect(again).toMatchObject({ kind: 'done', replayed: true });
    expect(again).not.toHaveProperty('refreshToken');
  });
});

describe('refreshing', () => {
  it('gives a new token each time, and takes the newest', async () => {
    const { deps, refreshToken } = await loggedIn();
    let token = refreshToken;
    for (let round = 0; round < 3; round++) {
      const next = await refreshSession(deps, context(), { refreshToken: token });
      if (next.kind !== 'done' || !next.refreshToken) throw new Error(`refused: ${JSON.stringify(next)}`);
      expect(next.refreshToken).not.toBe(token);
      token = next.refreshToken;
    }
  });

  it('ends the session when a token comes again after its grace', async () => {
    let seconds = 0;
    const { deps, store, id, refreshToken } = await loggedIn(
      () => new Date(Date.UTC(2026, 0, 1) + seconds * 1000),
    );
    const next = await refreshSession(deps, context(), { refreshToken });
    seconds = 11;
    const thief = await refreshSession(deps, context(), { refreshToken });
    expect(thief).toMatchObject({ kind: 'refused', refusal: { code: 'refresh_token_reused' } });
    expect((await store.load(id, sessionFold)).state.phase).toBe('ended');
    if (next.kind !== 'done' || !next.refreshToken) throw new Error('refused');
    expect(await refreshSession(deps, context(), { refreshToken: next.refreshToken })).toMatchObject({
      kind: 'refused',
      refusal: { code: 'session_ended' },
    });
  });

  it('gives all who ask at once with the same token its one successor, which is good afterwards', async () => {
    const { deps, refreshToken } = await loggedIn();
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => refreshSession(deps, context(), { refreshToken })),
    );
    expect(answers.map(({ kind }) => kind)).toEqual(Array(5).fill('done'));
    const [next, ...others] = new Set(answers.map((answer) => answer.refreshToken));
    expect(others).toEqual([]);
    if (!next) throw new Error('no token');
    expect(await refreshSession(deps, context(), { refreshToken: next })).toMatchObject({ kind: 'done' });
  });

  it('says of a repeated key that it was carried out, however late, and the session goes on', async () => {
    let seconds = 0;
    const { deps, store, id, refreshToken } = await loggedIn(
      () => new Date(Date.UTC(2026, 0, 1) + seconds * 1000),
    );
    await refreshSession(deps, context('key'), { refreshToken });
    seconds = 30;
    const again = await refreshSession(deps, context('key'), { refreshToken });
    expect(again).toMatchObject({ kind: 'done', replayed: true });
    expect(again).not.toHaveProperty('refreshToken');
    expect((await store.load(id, sessionFold)).state.phase).toBe('active');
  });

  it('refuses what was never a token of ours, and the session goes on', async () => {
    const { deps, store, id, refreshToken } = await loggedIn();
    const forged = [`${id}`, `${id}.wrong`, `${id}.wrong.wrong`, `${refreshToken}0`, `${refreshToken}.x`];
    for (const refreshToken of ['', 'x', ...forged, `ses-00${'0'.repeat(20)}.x`]) {
      expect(await refreshSession(deps, context(), { refreshToken })).toMatchObject({
        kind: 'refused',
        refusal: { code: 'session_ended' },
      });
    }
    expect((await store.load(id, sessionFold)).state.phase).toBe('active');
  });
});

describe('ending a session', () => {
  it('is done once and can be said again', async () => {
    const { deps, store, id } = await loggedIn();
    expect(await endSession(deps, context(), { sessionId: id })).toMatchObject({
      kind: 'done',
      body: { version: 2 },
    });
    expect(await endSession(deps, context(), { sessionId: id })).toMatchObject({
      kind: 'done',
      body: { version: 2 },
    });
    expect((await store.load(id, sessionFold)).state.phase).toBe('ended');
  });
});
