import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';
import { createInstallation, type Installation } from './installation.ts';
import { createWorld, type World } from './world.ts';

/** An installation on the run's shared servers; gone when the test is. */
export async function sharedSetting(
  environment: Record<string, string> = {},
): Promise<{ world: World; installation: Installation }> {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  return { world, installation: await installationIn(world, environment) };
}

/**
 * An installation on a Redis of its own, with an append-only file, to be stopped, killed and flushed.
 * @param redisUrl by which it speaks to another
 */
export async function ownRedisSetting(environment: Record<string, string> = {}, redisUrl?: string) {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-redis-'));
  const redis = await startRedis({ dir });
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  onTestFinished(() => redis.stop());
  const world = await createWorld({ redisUrl: redisUrl ?? redis.url });
  onTestFinished(() => world.dispose());
  return { dir, redis, world, installation: await installationIn(world, environment) };
}

async function installationIn(world: World, environment: Record<string, string>): Promise<Installation> {
  const installation = await createInstallation({
    redisUrl: world.redisUrl,
    databaseUrl: world.databaseUrl,
    prefix: world.prefix,
    environment,
  });
  // Handlers run last first: the processes end before what they are connected to.
  onTestFinished(() => installation.dispose());
  return installation;
}
