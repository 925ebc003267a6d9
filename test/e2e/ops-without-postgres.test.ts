import { expect, onTestFinished, test } from 'vitest';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';
import { createWorld } from '../support/world.ts';

test('while Postgres is away, what operators read says that it is the database, whichever part they ask', async () => {
  const { primary } = await ownPostgres();
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const { redisUrl, prefix } = world;
  const installation = await createInstallation({ redisUrl, databaseUrl: primary.url, prefix });
  onTestFinished(() => installation.dispose());
  await installation.start('api');
  const client = installation.client();
  const { token } = await installation.operator();
  const made = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  const { body: description } = await client.send('GET', '/openapi.json');
  const names: Record<string, string> = { id: String(made.body.id), name: 'jobs' };
  const reads = Object.entries(description.paths ?? {})
    .filter(([path, methods]) => path.startsWith('/v1/ops/') && 'get' in methods)
    .map(([path]) =>
      path.replace('/queues/{name}', '/queues/default').replace('/groups/{name}', '/groups/notifier'),
    )
    .map((path) => path.replace(/\{(\w+)\}/, (_, name) => names[name] ?? ''));
  const ask = async (path: string) => {
    const { status, body } = await client.send('GET', path, { token });
    return [path, status === 200 ? 'answered' : `${status} ${body.code}`];
  };
  expect(await ask('/v1/ops/events')).toEqual(['/v1/ops/events', 'answered']);

  await primary.stop();
  const answers = Object.fromEntries(await Promise.all(reads.map(ask)));
  const events = ['/v1/ops/events', `/v1/ops/streams/${made.body.id}`, `/v1/jobs/${made.body.id}/events`];
  for (const path of events) expect.soft(await ask(path)).toEqual([path, '503 read_store_unavailable']);
  const told = new Set(Object.values(answers));
  expect(told).toEqual(new Set(['answered', '503 read_store_unavailable']));

  await primary.start();
  await waitUntil(async () => (await ask('/v1/ops/events'))[1] === 'answered', 'events to be read again');
});
