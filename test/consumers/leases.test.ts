import { describe, expect, it, onTestFinished } from 'vitest';
import { createLeaseKeeper } from '../../src/consumers/lease-keeper.ts';
import { createLeases, type Lease, type Leases } from '../../src/consumers/leases.ts';
import { connectWriter } from '../../src/eventstore/connections.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { createWorld, type World } from '../support/world.ts';
import { until } from './support.ts';

async function openLeases() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  let token = 0;
  const mintTokens = async (count: number) => Array.from({ length: count }, () => ++token);
  return { world, as: (owner: string, timing = {}) => leasesOf(world, owner, mintTokens, timing) };
}

async function leasesOf(
  world: World,
  owner: string,
  mintTokens: (count: number) => Promise<number[]>,
  timing: { leaseMs?: number; renewEveryMs?: number; marginMs?: number },
) {
  const connection = connectWriter({ url: world.redisUrl, name: owner });
  await connection.whenReady(5_000);
  const keeper = createLeaseKeeper(connection.redis, timing);
  onTestFinished(() => {
    keeper.close();
    connection.close();
  });
  const keys = createKeys(world.prefix, 2);
  const leases = createLeases({ connection, keeper, owner, keys, mintTokens, ...timing });
  return { ...leases, connection, keeper, key: keys[0]?.lease('ledger') ?? '' };
}

const SHARE = { group: 'ledger', partition: 0 };

async function acquireOne(leases: Pick<Leases, 'acquire'>): Promise<Lease> {
  const [lease] = await leases.acquire([SHARE]);
  if (!lease) throw new Error('the lease was not to be had');
  return lease;
}

describe('A lease', () => {
  it('has one holder at a time; the next one has a higher token', async () => {
    const { as } = await openLeases();
    const one = await as('one#1');
    const two = await as('two#1');
    const lease = await acquireOne(one);
    expect(await two.acquire([SHARE])).toEqual([]);
    await lease.release();
    expect(lease.held()).toBe(false);
    expect((await acquireOne(two)).token).toBeGreaterThan(lease.token);
  });

  it('is held for as long as it is renewed, and lost by its holder once Redis says so', async () => {
    const { as } = await openLeases();
    const one = await as('one#1', { leaseMs: 400, renewEveryMs: 50, marginMs: 100 });
    const lease = await acquireOne(one);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(lease.held()).toBe(true);
    await one.connection.redis.del(one.key);
    await until(() => expect(lease.lost.aborted).toBe(true));
    expect(lease.held()).toBe(false);
  });

  it('is given up by a holder that cannot renew it, before anyone else can have it', async () => {
    const { as } = await openLeases();
    const one = await as('one#1', { leaseMs: 500, renewEveryMs: 50, marginMs: 200 });
    const two = await as('two#1');
    const lease = await acquireOne(one);
    one.keeper.close();
    await until(() => expect(lease.held()).toBe(false), 1_000);
    expect(await two.acquire([SHARE])).toEqual([]);
    await until(async () => expect(await two.acquire([SHARE])).toHaveLength(1), 2_000);
  });

  it('of a dead predecessor is ended by the same instance, and by no other', async () => {
    const { as } = await openLeases();
    const dead = await acquireOne(await as('one#1'));
    expect(await (await as('two#1')).endPredecessors([SHARE])).toBe(0);
    const successor = await as('one#2');
    expect(await successor.endPredecessors([SHARE])).toBe(1);
    const lease = await acquireOne(successor);
    expect(await successor.endPredecessors([SHARE])).toBe(0);
    await dead.release();
    expect(await successor.connection.redis.hget(successor.key, 'token')).toBe(String(lease.token));
  });

  it('does not go to a token that is below the one that is there', async () => {
    const { as } = await openLeases();
    const one = await as('one#1');
    await one.connection.redis.hset(one.key, { owner: 'one#0', token: 1_000 });
    expect(await one.acquire([SHARE])).toEqual([]);
  });

  it('that was taken is handed out although another could not be taken: it would be renewed for ever, used by nobody', async () => {
    const { world, as } = await openLeases();
    const admin = (await as('admin#1')).connection.redis;
    const [first, second] = createKeys(world.prefix, 2);
    const user = `u-${world.prefix}`;
    // May look at the second lease, and take the first one only.
    await admin.call(
      ...['ACL', 'SETUSER', user, 'on', 'nopass', '+@all'],
      ...[`~${first?.lease('')}*`, `%R~${second?.lease('')}*`],
    );
    onTestFinished(() => void admin.call('ACL', 'DELUSER', user));
    const url = new URL(world.redisUrl);
    [url.username, url.password] = [user, 'any'];
    const one = await leasesOf({ ...world, redisUrl: url.href }, 'one#1', async () => [1, 2], {});
    const taken = await one.acquire([SHARE, { ...SHARE, partition: 1 }]);
    expect(taken.map(({ partition }) => partition)).toEqual([0]);
    await taken[0]?.release();
    expect(await (await as('two#1')).acquire([SHARE])).toHaveLength(1);
  });

  it('changes no hands while no token can be minted', async () => {
    const { world } = await openLeases();
    const away = async () => {
      throw new Error('Postgres is away');
    };
    const leases = await leasesOf(world, 'one#1', away, {});
    await expect(leases.acquire([SHARE])).rejects.toThrow('Postgres is away');
    expect(await leases.connection.redis.exists(leases.key)).toBe(0);
  });
});
