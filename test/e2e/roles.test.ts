import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, it, onTestFinished } from 'vitest';
import { sharedSetting } from '../support/setting.ts';

it('a process in which one role cannot start ends, and hands over what its other roles had taken', async () => {
  const { world, installation } = await sharedSetting();
  const taken = createServer().listen(Number(installation.environment.PORT), '127.0.0.1');
  await once(taken, 'listening');
  onTestFinished(() => void taken.close());
  const main = join(import.meta.dirname, '../../src/main.ts');
  const child = spawn(process.execPath, [main, '--roles', 'api,projectors,workers'], {
    env: { PATH: process.env.PATH ?? '', ...installation.environment, SHUTDOWN_SECONDS: '5' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const [code] = await once(child, 'close');
  expect(code, output).toBe(1);
  expect(output).toContain('EADDRINUSE');
  const redis = new Redis(world.redisUrl);
  onTestFinished(() => redis.disconnect());
  expect(await redis.keys(`${world.prefix}:*lease:*`)).toEqual([]);
});
