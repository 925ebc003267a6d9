import { Redis } from 'ioredis';
import { expect, it, onTestFinished } from 'vitest';
import { aliveMembers, joinMembers } from '../../src/consumers/membership.ts';
import { createWorld } from '../support/world.ts';

it('a member that has left stays away, though its groups change while it stops', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const redis = new Redis(world.redisUrl);
  onTestFinished(() => redis.disconnect());
  const { prefix } = world;
  const member = await joinMembers({
    ...{ redis, prefix, role: 'projectors', member: 'one#1', hints: { publish: () => {} } },
    ...{ groups: () => ['ledger'], onError: () => {} },
  });
  const alive = async () => [...(await aliveMembers(redis, prefix, 'projectors')).keys()];
  expect(await alive()).toEqual(['one#1']);
  await member.leave();
  await member.announce();
  expect(await alive()).toEqual([]);
});
