import { expect, test } from 'vitest';
import { createGate, TooBusyError } from '../../src/access/gate.ts';

test('no more run at once than allowed, in the order they came, and the rest is turned away', async () => {
  const gate = createGate(2, 2);
  const order: number[] = [];
  const ends: (() => void)[] = [];
  const task = (number: number) =>
    gate(async () => {
      order.push(number);
      await new Promise<void>((resolve) => ends.push(resolve));
    });
  const tasks = [task(1), task(2), task(3), task(4)];
  await expect(task(5)).rejects.toThrow(TooBusyError);
  expect(order).toEqual([1, 2]);
  ends.shift()?.();
  await tasks[0];
  await expect.poll(() => order).toEqual([1, 2, 3]);
  while (ends.length > 0 || order.length < 4) {
    ends.shift()?.();
    await new Promise(setImmediate);
  }
  ends.shift()?.();
  await Promise.all(tasks);
  expect(order).toEqual([1, 2, 3, 4]);
});

test('a task that fails frees its place', async () => {
  const gate = createGate(1, 0);
  await expect(gate(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await expect(gate(async () => 'yes')).resolves.toBe('yes');
});
