import { describe, expect, it } from 'vitest';
import { registerAccount } from '../../src/commands/accounts.ts';
import { emailStream } from '../../src/commands/email.ts';
import { completeErasure, eraseAccount, releaseEmail } from '../../src/commands/erasures.ts';
import { login } from '../../src/commands/sessions.ts';
import { accountFold } from '../../src/domain/accounts.ts';
import { jobFold } from '../../src/domain/jobs/state.ts';
import { context, writeSide } from './support.ts';

const ada = { email: 'ada@example.com', password: 'correct horse battery', name: 'Ada' };

async function erased() {
  const side = await writeSide();
  const made = await registerAccount(side.deps, context('k'), ada);
  if (made.kind !== 'done') throw new Error('not registered');
  const accountId = made.body.id;
  const done = await eraseAccount(side.deps, context(), { accountId });
  return { ...side, accountId, done };
}

describe('erasing an account', () => {
  it('closes it and enqueues the job that does the rest, in one commit', async () => {
    const { deps, store, accountId, done } = await erased();
    expect(done).toMatchObject({ kind: 'done', body: { id: accountId, version: 2 } });
    const { state } = await store.load(accountId, accountFold);
    if (state.phase !== 'erasing') throw new Error(`it is ${state.phase}`);
    const job = await store.load(state.jobId as typeof accountId, jobFold);
    expect(job.state).toMatchObject({
      phase: 'queued',
      spec: { type: 'account.erase', payload: { accountId } },
    });
    expect(await login(deps, context(), ada)).toMatchObject({
      kind: 'refused',
      refusal: { code: 'wrong_credentials' },
    });
  });

  it('changes nothing when it is done again', async () => {
    const { deps, store, accountId } = await erased();
    const before = await store.load(accountId, accountFold);
    const again = await eraseAccount(deps, context(), { accountId });
    expect(again).toMatchObject({ kind: 'done', body: { version: 2 } });
    expect(await store.load(accountId, accountFold)).toEqual(before);
  });

  it('makes nothing of it again: a registration that is sent once more gets neither key nor password', async () => {
    const { deps, world, accountId } = await erased();
    const emailId = emailStream(deps, ada.email);
    await releaseEmail(deps, context(), { emailId, accountId });
    await world.db.deleteFrom('person_keys').execute();
    await world.db.deleteFrom('credentials').execute();
    const again = await registerAccount(deps, context('k'), ada);
    expect(again).toMatchObject({ kind: 'refused', refusal: { code: 'account_erased' } });
    expect(await world.db.selectFrom('person_keys').selectAll().execute()).toEqual([]);
    expect(await world.db.selectFrom('credentials').selectAll().execute()).toEqual([]);
    const anew = await registerAccount(deps, context(), ada);
    expect(anew).toMatchObject({ kind: 'done' });
    expect(anew.kind === 'done' && anew.body.id).not.toBe(accountId);
  });

  it('gives an email up only where it is the account’s still', async () => {
    const { deps, store, accountId } = await erased();
    const emailId = emailStream(deps, ada.email);
    await releaseEmail(deps, context(), { emailId, accountId });
    const bob = await registerAccount(deps, context(), ada);
    await releaseEmail(deps, context(), { emailId, accountId });
    expect(await login(deps, context(), ada)).toMatchObject({ kind: 'done' });
    expect(bob).toMatchObject({ kind: 'done' });
    expect((await store.load(accountId, accountFold)).version).toBe(2);
  });

  it('is complete once, with what there was', async () => {
    const { deps, store, accountId } = await erased();
    const counts = { sessions: 1, jobs: 2, schedules: 3, exports: 4 };
    await completeErasure(deps, context(), { accountId, erased: counts });
    await completeErasure(deps, context(), { accountId, erased: { ...counts, jobs: 9 } });
    const { state, version } = await store.load(accountId, accountFold);
    expect(state).toMatchObject({ phase: 'erased', erased: counts });
    expect(version).toBe(3);
  });
});
