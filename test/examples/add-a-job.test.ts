import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startWorkers } from '../../src/consumers/workers.ts';
import { createJobTypes } from '../../src/domain/job-types.ts';
import { enqueue, jobDeps, jobState, openWorld, roleDeps, until } from '../consumers/support.ts';
import { eventsInLog } from '../support/log.ts';
import { wordCountJob } from './word-count.ts';

const root = join(import.meta.dirname, '..', '..');

it('docs/how-to/add-a-job.md shows the code that is run here', async () => {
  const page = await readFile(join(root, 'docs/how-to/add-a-job.md'), 'utf8');
  const [, shown = ''] = /```ts\n\/\/ src\/consumers\/word-count\.ts\n([\s\S]*?)```/.exec(page) ?? [];
  const run = await readFile(join(import.meta.dirname, 'word-count.ts'), 'utf8');
  expect(shown).toBe(run.replace('../../src/consumers/', './'));
});

it('its job is checked by the API, and run by a worker', async () => {
  const types = createJobTypes([wordCountJob]);
  expect(types.get('word-count')?.faults({ text: 'a b' })).toEqual([]);
  expect(types.get('word-count')?.faults({ text: 1 })).toMatchObject([{ instancePath: '/text' }]);

  const { world, store } = await openWorld();
  const workers = await startWorkers({
    ...roleDeps(world, store),
    ...jobDeps(store),
    jobs: [wordCountJob],
    concurrency: 1,
    drainMs: 1_000,
    random: Math.random,
  });
  onTestFinished(() => workers.stop());
  const type = 'word-count';
  const counted = await enqueue(store, { type, payload: { text: 'to be\nor not  to be\n' } });
  const tooLong = await enqueue(store, { type, payload: { text: '\n'.repeat(20_000) } });
  await until(async () => expect((await jobState(store, counted)).phase).toBe('succeeded'));
  await until(async () =>
    expect(await jobState(store, tooLong)).toMatchObject({ phase: 'failed', attempts: 1 }),
  );
  const completed = (await eventsInLog(store)).filter(({ type }) => type === 'JobCompleted');
  expect(completed.map(({ data }) => JSON.parse(data).result)).toEqual([{ words: 6 }]);
});
