import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { startAll } from '../../src/app/start-all.ts';

function role(name: string, stopped: string[], afterMs = 0) {
  return async () => {
    await sleep(afterMs);
    return { name, stop: async () => void stopped.push(name) };
  };
}

it('gives back all that started, and stops none of them', async () => {
  const stopped: string[] = [];
  const started = await startAll([role('api', stopped, 5), role('workers', stopped)]);
  expect(started.map(({ name }) => name)).toEqual(['api', 'workers']);
  expect(stopped).toEqual([]);
});

it('stops what started, sooner or later than the failure, and tells the failure', async () => {
  const stopped: string[] = [];
  const failing = async () => {
    await sleep(5);
    throw new Error('EADDRINUSE');
  };
  await expect(
    startAll([role('projectors', stopped), failing, role('workers', stopped, 20)]),
  ).rejects.toThrow('EADDRINUSE');
  expect(stopped).toEqual(['projectors', 'workers']);
});
