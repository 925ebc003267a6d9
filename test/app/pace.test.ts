import { expect, it } from 'vitest';
import { inTurns } from '../../src/app/pace.ts';

const never = new AbortController().signal;

it('who waits for his turn and is told to stop leaves at once, and is in nobody’s way', async () => {
  const turn = inTurns(1);
  const first = Promise.withResolvers<string>();
  const running = turn(() => first.promise, never);
  const stop = new AbortController();
  const ran: string[] = [];
  const stopped = turn(async () => void ran.push('stopped'), stop.signal);
  const last = turn(async () => void ran.push('last'), never);
  stop.abort();
  // While the first one is still at work, which may take hours.
  expect(await stopped).toBeUndefined();
  first.resolve('done');
  expect(await running).toBe('done');
  await last;
  expect(ran).toEqual(['last']);
  expect(await turn(async () => 'free again', never)).toBe('free again');
});
