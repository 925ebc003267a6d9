import { createSecretKey, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { type PersonKey, seal, sealJson } from '../../src/access/people.ts';
import { holdsSealed, mapSealed, openDeep } from '../../src/access/sealed.ts';

const ada: PersonKey = { accountId: 'acc-ada', key: createSecretKey(randomBytes(32)) };
const bob: PersonKey = { accountId: 'acc-bob', key: createSecretKey(randomBytes(32)) };

test('what was sealed as JSON is the same value again, wherever it stands', () => {
  const payload = { said: 'ä', n: [1, null, { deep: true }] };
  const event = { type: 'echo', payload: sealJson(ada, payload), keys: [seal(ada, 'key'), 7] };
  expect(JSON.stringify(event)).not.toContain('said');
  expect(holdsSealed(event)).toBe(true);
  expect(openDeep(ada, event)).toEqual({ type: 'echo', payload, keys: ['key', 7] });
});

test('nobody looks into what a person has written: a text of theirs that looks sealed stays as it is', () => {
  const planted = { text: seal(bob, 'bob'), other: 'sealed:v1:AAAA' };
  expect(openDeep(ada, sealJson(ada, planted))).toEqual(planted);
  expect(openDeep(ada, planted)).toEqual(planted);
  expect(openDeep(bob, openDeep(bob, sealJson(bob, { text: seal(bob, 'bob') })))).toEqual({ text: 'bob' });
});

test('a value can’t be passed off as a text, nor a text as a value', () => {
  const asText = sealJson(ada, 'x').replace('sealed-json:', 'sealed:');
  const asJson = seal(ada, '{}').replace('sealed:', 'sealed-json:');
  expect(openDeep(ada, [asText, asJson])).toEqual([asText, asJson]);
});

test('what nobody can open any more can be named instead', () => {
  const view = { id: 'job-1', key: seal(ada, 'k'), result: sealJson(ada, 1), list: [sealJson(ada, {})] };
  expect(mapSealed(view, () => '[erased]')).toEqual({
    id: 'job-1',
    key: '[erased]',
    result: '[erased]',
    list: ['[erased]'],
  });
  expect(holdsSealed({ a: ['plain', 1, null], b: { c: false } })).toBe(false);
});
