import { expect, test } from 'vitest';
import { pausable } from '../../src/app/groups.ts';

test.each([
  ['notifier', undefined, ''],
  ['projection:jobs@2', undefined, ''],
  ['ledger', 'group_not_pausable', 'lost with Redis'],
  // They are listed among the groups, so nobody is told that there are none.
  ['lane:email', 'group_not_pausable', 'millrace queues pause email'],
  ['timers', 'group_not_pausable', 'paused queue'],
  ['schedules', 'group_not_pausable', 'paused queue'],
  ['lane:nothing', 'not_found', 'There is no group lane:nothing'],
])('whether the group %s can be paused: %s %s', (name, code, detail) => {
  const decision = pausable(name);
  const refusal = decision.ok ? undefined : decision.refusal;
  expect(refusal?.code).toBe(code);
  expect(refusal?.detail ?? '').toContain(detail);
});
