import { describe, expect, it } from 'vitest';
import { registerAccount } from '../../src/commands/accounts.ts';
import { normalizeEmail } from '../../src/commands/email.ts';
import { mintId } from '../../src/commands/mint.ts';
import { login } from '../../src/commands/sessions.ts';
import { context, writeSide } from './support.ts';

const ada = { email: 'Ada@Example.com', password: 'correct horse battery', name: 'Ada' };

describe('registering', () => {
  it('makes an account that can log in at once, by its email in any case', async () => {
    const { deps } = await writeSide();
    const made = await registerAccount(deps, context(), ada);
    expect(made).toMatchObject({ kind: 'done', body: { version: 1 }, replayed: false });
    const session = await login(deps, context(), { ...ada, email: ' ada@EXAMPLE.com' });
    expect(session).toMatchObject({ kind: 'done', body: { role: 'user' } });
  });

  it('is refused for an email that is taken, and leaves nothing behind', async () => {
    const { deps, world } = await writeSide();
    await registerAccount(deps, context(), ada);
    const second = await registerAccount(deps, context(), { ...ada, email: 'ADA@example.COM' });
    expect(second).toMatchObject({ kind: 'refused', refusal: { code: 'email_taken' } });
    expect(await world.db.selectFrom('credentials').selectAll().execute()).toHaveLength(1);
    expect(await world.db.selectFrom('person_keys').selectAll().execute()).toHaveLength(1);
  });

  it('goes on with the same account after a crash between the key’s claim and the commit', async () => {
    const { deps } = await writeSide();
    // What a process has done that died right after fixing the id.
    const crashed = await mintId(
      deps,
      context('k'),
      'acc',
      Number.parseInt(deps.hmac('email', normalizeEmail(ada.email)).slice(0, 8), 16) % deps.store.partitions,
    );
    if (!crashed.ok) throw new Error('the key is new');
    const retried = await registerAccount(deps, context('k'), ada);
    expect(retried).toMatchObject({ kind: 'done', body: { id: crashed.id }, replayed: false });
    const again = await registerAccount(deps, context('k'), ada);
    expect(again).toMatchObject({ kind: 'done', body: { id: crashed.id }, replayed: true });
    expect(await login(deps, context(), ada)).toMatchObject({ kind: 'done' });
  });

  it('refuses a key that was used for another request', async () => {
    const { deps } = await writeSide();
    await registerAccount(deps, context('k', 'one'), ada);
    const other = await registerAccount(deps, context('k', 'two'), { ...ada, email: 'bob@example.com' });
    expect(other).toEqual({ kind: 'key_reused' });
  });

  it('loses its password and key with a commit that lost the race, never those of the winner', async () => {
    const { deps, world } = await writeSide();
    const all = await Promise.all(Array.from({ length: 8 }, () => registerAccount(deps, context(), ada)));
    expect(all.filter((result) => result.kind === 'done')).toHaveLength(1);
    const winner = all.find((result) => result.kind === 'done');
    const kept = await world.db.selectFrom('credentials').select('account_id').execute();
    expect(kept).toEqual([{ account_id: winner?.kind === 'done' ? winner.body.id : '' }]);
  });
});
