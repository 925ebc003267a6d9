import { expect, test } from 'vitest';
import { reasonIn } from '../../deploy/local/roles.mjs';

test('why a part ended is the last error of its log, not the chatter after it', () => {
  const lines = [
    '{"level":30,"msg":"starting"}',
    '{"level":60,"msg":"cannot listen","err":{"message":"EADDRINUSE: 127.0.0.1:8080"}}',
    '{"level":30,"msg":"stopped"}',
  ];
  expect(reasonIn(lines)).toBe('cannot listen: EADDRINUSE: 127.0.0.1:8080');
});

test('an error that Node printed itself is found among its stack', () => {
  const lines = ['/src/main.ts:3', 'TypeError: x is not a function', '    at main.ts:3:1', 'Node.js v24.0.0'];
  expect(reasonIn(lines)).toBe('TypeError: x is not a function');
});

test('a log without an error is told by its last line', () => {
  expect(reasonIn(['{"level":30,"msg":"starting"}', '{"level":30,"msg":"listening"}', ''])).toBe('listening');
});

test('an empty log tells nothing', () => {
  expect(reasonIn([''])).toBe('');
});
