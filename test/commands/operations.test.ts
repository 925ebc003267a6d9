import { expect, test } from 'vitest';
import { recordOperation } from '../../src/commands/operations.ts';
import { parseStreamId } from '../../src/domain/ids.ts';
import { context, writeSide } from './support.ts';

const rebuild = { operation: 'projection.rebuild', target: 'jobs', parameters: { drop: true } };
const asked = (key?: string, body?: string) => ({
  ...context(key, body),
  actor: 'system:cli:ada',
  owner: 'acc-1',
  reason: 'a column was wrong',
});

test('what an operator does is kept with who and why, before it is done, and is nobody’s to export', async () => {
  const { store, deps } = await writeSide();
  const done = await recordOperation(deps, asked(), rebuild);
  if (done.kind !== 'done') throw new Error(done.kind);
  const id = parseStreamId(done.body.id, 'op');
  if (!id) throw new Error(done.body.id);
  const [event, ...more] = await store.history(id, { limit: 10 });
  expect(more).toEqual([]);
  expect([event?.type, JSON.parse(event?.data ?? '')]).toEqual(['OperationRecorded', rebuild]);
  const meta = JSON.parse(event?.meta ?? '');
  expect(meta).toMatchObject({ actor: 'system:cli:ada', reason: 'a column was wrong' });
  expect(meta.owner).toBeUndefined();
});

test('without a reason nothing is recorded, and so nothing may be done', async () => {
  const { deps, store } = await writeSide();
  const { reason: _, ...without } = asked();
  for (const context of [without, { ...without, reason: '' }, { ...without, reason: ' \n' }]) {
    const refused = await recordOperation(deps, context, rebuild);
    expect(refused).toMatchObject({ kind: 'refused', refusal: { code: 'reason_missing' } });
  }
  expect((await store.heads()).every((head) => head === 0)).toBe(true);
});

test('a request that comes again with its key is recorded once; another one with that key is told so', async () => {
  const { deps, store } = await writeSide();
  const [one, again] = [
    await recordOperation(deps, asked('k'), rebuild),
    await recordOperation(deps, asked('k'), rebuild),
  ];
  expect(again).toMatchObject({ kind: 'done', replayed: true, body: one.kind === 'done' ? one.body : {} });
  expect((await store.heads()).reduce((sum, head) => sum + head, 0)).toBe(1);
  expect(await recordOperation(deps, asked('k', 'other'), rebuild)).toEqual({ kind: 'key_reused' });
});
