import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { type LeaseTiming, startLeaseKeeper } from '../../src/consumers/lease-keeper.ts';
import { createLeases, type Lease, type Leases } from '../../src/consumers/leases.ts';
import { connectWriter } from '../../src/eventstore/connections.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { leaseKeeperOn } from '../support/connections.ts';
import { ownRedis } from '../support/own-redis.ts';
import { startProxy } from '../support/proxy.ts';
import { createWorld, type World } from '../support/world.ts';
import { until } from './support.ts';

async function openLeases() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  let token = 0;
  const mintTokens = async (count: number) => Array.from({ length: count }, () => ++token);
  return {
    world,
    as: (owner: string, timing: LeaseTiming = {}) => leasesOf(world, owner, mintTokens, timing),
  };
}

async function leasesOf(
  world: World,
  owner: string,
  mintTokens: (count: number, runId: string, above: number) => Promise<number[]>,
  timing: LeaseTiming,
  renewerUrl = world.redisUrl,
) {
  const connection = connectWriter({ url: world.redisUrl, name: owner });
  await connection.whenReady(5_000);
  const keeper = leaseKeeperOn(renewerUrl, timing);
  onTestFinished(async () => {
    await keeper.close();
    connection.close();
  });
  await keeper.ready();
  const keys = createKeys(world.prefix, 2);
  const leases = createLeases({ connection, keeper, owner, keys, mintTokens });
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
    const one = await as('one#1', { leaseMs: 1_000, renewEveryMs: 100 });
    const lease = await acquireOne(one);
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(lease.held()).toBe(true);
    await one.connection.redis.del(one.key);
    await until(() => expect(lease.lost.aborted).toBe(true));
    expect(lease.held()).toBe(false);
  });

  it('is given up by a holder that cannot renew it, before anyone else can have it', async () => {
    const { as } = await openLeases();
    const one = await as('one#1', { leaseMs: 1_500, renewEveryMs: 200 });
    const two = await as('two#1');
    const lease = await acquireOne(one);
    await one.keeper.close();
    await until(() => expect(lease.held()).toBe(false), 10_000);
    expect(await two.acquire([SHARE])).toEqual([]);
    await until(async () => expect(await two.acquire([SHARE])).toHaveLength(1), 10_000);
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
      ...[`~${first?.lease('')}*`, `~${first?.meta}`, `%R~${second?.lease('')}*`, `%R~${second?.meta}`],
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

  it('has a higher token than any before it, also where Postgres was set back to before it gave that out', async () => {
    const { world } = await openLeases();
    const [keys] = createKeys(world.prefix, 2);
    const mint = (count: number, _runId: string, above: number) => {
      asked.push(above);
      return Promise.resolve(Array.from({ length: count }, () => next));
    };
    const asked: number[] = [];
    let next = 7;
    const one = await leasesOf(world, 'one#1', mint, {});
    await one.connection.redis.hset(keys?.meta ?? '', { store: 's' });
    await (await acquireOne(one)).release();
    next = 3;
    const two = await leasesOf(world, 'two#1', mint, {});
    expect(await two.acquire([SHARE])).toEqual([]);
    next = 8;
    expect(await acquireOne(two)).toMatchObject({ token: 8 });
    expect(asked).toEqual([0, 7, 7]);
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

  it('is kept through a loop that is blocked for longer than its time', async () => {
    const { as } = await openLeases();
    const one = await as('one#1', { leaseMs: 1_000, renewEveryMs: 200, silentMs: 10_000 });
    const lease = await acquireOne(one);
    blockLoop(2_500);
    expect(lease.secure()).toBe(true);
    expect(await one.connection.redis.hget(one.key, 'token')).toBe(String(lease.token));
  });

  it('is not relied on for anything new while Redis is away, and is renewed as soon as it is back', async () => {
    const redis = await ownRedis();
    const world = await createWorld({ redisUrl: redis.url });
    onTestFinished(() => world.dispose());
    const one = await leasesOf(world, 'one#1', async () => [1], { leaseMs: 8_000, renewEveryMs: 300 });
    const lease = await acquireOne(one);
    await redis.stop();
    await until(() => expect(lease.secure()).toBe(false), 4_000);
    expect(lease.held()).toBe(true);
    await redis.start();
    await until(() => expect(lease.secure()).toBe(true), 4_000);
    expect(lease.held()).toBe(true);
  });

  it('is neither taken nor relied on for anything new while its renewer alone is cut off', async () => {
    const { world } = await openLeases();
    const proxy = await startProxy(world.redisUrl);
    let token = 0;
    const mint = async (count: number) => Array.from({ length: count }, () => ++token);
    const one = await leasesOf(world, 'one#1', mint, {}, proxy.url);
    const lease = await acquireOne(one);
    proxy.refuse();
    // Long before its next renewal is due.
    await until(() => expect(lease.secure()).toBe(false), 4_000);
    expect(lease.held()).toBe(true);
    await expect(one.acquire([{ ...SHARE, partition: 1 }])).rejects.toThrow('not reachable');
    proxy.accept();
    await until(() => expect(lease.secure()).toBe(true), 10_000);
    expect(await one.acquire([{ ...SHARE, partition: 1 }])).toHaveLength(1);
  });
});

/** Holds this thread as a long loop would, for less heat. */
function blockLoop(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('The renewer of leases', () => {
  it('that cannot run says so, and nobody waits for it', async () => {
    const died = Promise.withResolvers<Error>();
    const keeper = startLeaseKeeper({
      redisUrl: 'redis://127.0.0.1:1',
      log: { level: 'loud' as never, role: 'test', instanceId: 'test' },
      onDeath: died.resolve,
    });
    await expect(keeper.ready()).rejects.toThrow('renewer');
    expect((await died.promise).cause).toMatchObject({ message: expect.stringContaining('loud') });
  });

  it('does not keep a process alive', async () => {
    const module = new URL('../../src/consumers/lease-keeper.ts', import.meta.url).href;
    const code = `import { startLeaseKeeper } from '${module}';
      const log = { level: 'fatal', role: 'test', instanceId: 'test' };
      await startLeaseKeeper({ redisUrl: '${inject('redisUrl')}', log, onDeath: () => process.exit(3) }).ready();
      console.log('ready');`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], {
      timeout: 20_000,
    });
    expect(stdout).toBe('ready\n');
  });
});
