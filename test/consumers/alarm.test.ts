import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createAlarm } from '../../src/consumers/alarm.ts';

describe('one alarm for all that may be late', () => {
  it('calls back who is late, once, and nobody who was in time', async () => {
    const alarm = createAlarm(40);
    const late: number[] = [];
    const cancels = Array.from({ length: 200 }, (_, n) => alarm(() => late.push(n), performance.now()));
    for (const [n, cancel] of cancels.entries()) if (n % 3 !== 0) cancel();
    await sleep(10);
    expect(late).toEqual([]);
    await sleep(300);
    expect(late).toEqual(Array.from({ length: 67 }, (_, n) => n * 3));
    for (const cancel of cancels) cancel();
  });

  it('goes by when each began, and rings again for those who asked meanwhile', async () => {
    const alarm = createAlarm(60);
    const told = new Map<number, number>();
    const began = new Map<number, number>();
    for (let n = 0; n < 6; n++) {
      began.set(n, performance.now() - (n === 0 ? 50 : 0));
      alarm(() => told.set(n, performance.now()), began.get(n) ?? 0);
      await sleep(25);
    }
    await sleep(400);
    expect([...told.keys()]).toEqual([0, 1, 2, 3, 4, 5]);
    for (const [n, at] of told) expect(at - (began.get(n) ?? 0)).toBeGreaterThanOrEqual(59);
  });

  it('rings when nobody has asked for a while, and then somebody does', async () => {
    const alarm = createAlarm(20);
    alarm(() => {}, performance.now())();
    await sleep(60);
    const rung = Promise.withResolvers<void>();
    alarm(rung.resolve, performance.now());
    await rung.promise;
  });
});
