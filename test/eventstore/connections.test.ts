import { expect, onTestFinished, test } from 'vitest';
import { connectReader, connectWriter } from '../../src/eventstore/connections.ts';
import { startProxy } from '../support/proxy.ts';
import { createWorld } from '../support/world.ts';

test.each([
  ['writer', connectWriter],
  ['reader', connectReader],
])('a command whose reply got lost is rejected, and never sent again: %s', async (_kind, connectTo) => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const proxy = await startProxy(world.redisUrl);
  const connection = connectTo({ url: proxy.url, name: 'test' });
  onTestFinished(() => connection.close());
  await connection.whenReady(5_000);
  const key = `${world.prefix}:count`;
  proxy.dropReplyTo((request) => request.includes('incr'));
  await expect(connection.redis.incr(key)).rejects.toThrow();
  await connection.whenReady(5_000);
  expect(await connection.redis.get(key)).toBe('1');
});

test('a command is refused at once while there is no connection', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const proxy = await startProxy(world.redisUrl);
  const connection = connectWriter({ url: proxy.url, name: 'test' });
  onTestFinished(() => connection.close());
  await connection.whenReady(5_000);
  const key = `${world.prefix}:count`;
  proxy.cut();
  await new Promise((resolve) => connection.redis.once('close', resolve));
  await expect(connection.redis.incr(key)).rejects.toThrow();
  await connection.whenReady(5_000);
  expect(await connection.redis.get(key)).toBeNull();
});

test('a server without the database of its URL is none to write to: nothing goes to another one', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const url = new URL(world.redisUrl);
  url.pathname = '/15000';
  const connection = connectWriter({ url: url.href, name: 'test' });
  onTestFinished(() => connection.close());
  await expect(connection.whenReady(5_000)).rejects.toThrow('database 15000, which this Redis does not have');
});
