import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import {
  type CommitOutcome,
  type CommitRequest,
  FencedError,
  OutcomeUnknownError,
  StoreUnavailableError,
} from '../../src/eventstore/types.ts';
import { eventsInLog } from '../support/log.ts';
import { callbackUrl, cursorOf, endJob, ends, group, idsTold, start, told } from './notifying.ts';
import { appendEvents, openStore, openWorld, until } from './support.ts';

describe('The end of a job with a callback', () => {
  it('leads to one request that tells of it, in the order of ends; no other job leads to any', async () => {
    const { world, store } = await openWorld();
    await endJob(store, ends.succeeded());
    const succeeded = await endJob(store, ends.succeeded(callbackUrl));
    const failed = await endJob(store, ends.failed(callbackUrl));
    await endJob(store, ends.succeeded(undefined, { callbackUrl: 'https://not.a/callback' }));
    await start(world, store);
    await until(async () => expect(await told(store)).toHaveLength(2));
    const cancelled = await endJob(store, ends.cancelled(callbackUrl));
    await until(async () => expect(await told(store)).toHaveLength(3));

    const requests = await told(store);
    expect(requests.map(({ url, method }) => [url, method])).toEqual(
      Array.from({ length: 3 }, () => [callbackUrl, 'POST']),
    );
    const about = (id: string) => ({ id, type: 'echo', version: 2, href: `/v1/jobs/${id}` });
    const finishedAt = expect.stringMatching(/Z$/);
    expect(requests.map(({ body }) => body)).toEqual([
      { ...about(succeeded), status: 'succeeded', result: { n: 1 }, finishedAt },
      { ...about(failed), status: 'failed', error: { name: 'Error', message: 'no' }, finishedAt },
      { ...about(cancelled), status: 'cancelled', finishedAt },
    ]);
    const end = (await eventsInLog(store)).find(
      ({ streamId, version }) => streamId === succeeded && version === 2,
    );
    expect(requests[0]?.meta).toMatchObject({
      actor: 'system:notifier',
      owner: 'acc-1',
      correlation: 'c-1',
      causation: end?.id,
      reaction: { reactor: 'notifier', seq: end?.seq },
    });
    expect(await store.reader.redis.xlen(store.keys[0]?.work('webhooks', 'normal') ?? '')).toBe(3);
  });

  it('is told without a result that is large', async () => {
    const { world, store } = await openWorld();
    await endJob(store, ends.succeeded(callbackUrl, 'x'.repeat(100_000)));
    await start(world, store);
    await until(async () => expect(await told(store)).toHaveLength(1));
    const [request] = await told(store);
    expect(request?.body).toMatchObject({ status: 'succeeded', resultOmitted: true });
    expect(request?.body).not.toHaveProperty('result');
  });

  it('is told once, however often the notifier stops and starts, and two of them compete', async () => {
    const { world, store } = await openWorld();
    const ended: string[] = [];
    const ending = (async () => {
      for (let round = 0; round < 40; round++) {
        const jobs = Array.from({ length: 5 }, () => endJob(store, ends.succeeded(callbackUrl)));
        ended.push(...(await Promise.all(jobs)));
      }
    })();
    for (let round = 0; round < 4; round++) {
      const both = await Promise.all([
        start(world, await openStore(world)),
        start(world, await openStore(world)),
      ]);
      await Promise.all(both.map(({ stop }) => stop()));
    }
    await ending;
    await start(world, store);
    await until(async () => expect((await idsTold(store)).length).toBeGreaterThanOrEqual(200));
    expect((await idsTold(store)).toSorted()).toEqual(ended.toSorted());
    const inLog = (await eventsInLog(store)).filter(({ type }) => type === 'JobCompleted');
    expect(await idsTold(store)).toEqual(inLog.map(({ streamId }) => streamId));
  });

  it('is told once where replies get lost, whether or not the commit stands', async () => {
    const { world, store } = await openWorld();
    const ended = await Promise.all(
      Array.from({ length: 50 }, () => endJob(store, ends.succeeded(callbackUrl))),
    );
    let commits = 0;
    const lossy: OpenEventStore = {
      ...store,
      async commit(request: CommitRequest): Promise<CommitOutcome> {
        if (++commits % 3 === 1) throw new StoreUnavailableError('not sent');
        const outcome = await store.commit(request);
        if (commits % 3 === 2) throw new OutcomeUnknownError('the reply was lost');
        return outcome;
      },
    };
    await start(world, store, [group(lossy)]);
    await until(async () => expect((await idsTold(store)).length).toBeGreaterThanOrEqual(50));
    expect((await idsTold(store)).toSorted()).toEqual(ended.toSorted());
  });

  it('is not told again where the cursor was lost', async () => {
    const { world, store } = await openWorld();
    await endJob(store, ends.succeeded(callbackUrl));
    const first = await start(world, store);
    await until(async () => expect(await told(store)).toHaveLength(1));
    await first.stop();
    await store.writer.redis.del(store.keys[0]?.cursor('notifier') ?? '');
    const second = await endJob(store, ends.succeeded(callbackUrl));
    await start(world, store);
    await until(async () => expect(await idsTold(store)).toContain(second));
    expect(await told(store)).toHaveLength(2);
  });

  it('is told out of the ledger where the log was trimmed', async () => {
    const { world, store } = await openWorld();
    const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
    onTestFinished(() => pool.end());
    const ledger = () => createLedger(pool, world.db);
    const ended = await endJob(store, ends.failed(callbackUrl));
    await appendEvents(store, 0, 300);
    const trim = { windowEvents: 0, retentionMs: 0, everyMs: 50 };
    const before = await start(world, store, [ledger()], trim);
    const length = () => store.reader.redis.xlen(store.keys[0]?.log ?? '');
    await until(async () => expect(await length()).toBeLessThan(250));
    await before.stop();
    await start(world, store, [ledger(), group(store)]);
    await until(async () => expect(await idsTold(store)).toEqual([ended]));
  });

  it('is not told by an owner that was followed by another', async () => {
    const { store } = await openWorld();
    await endJob(store, ends.succeeded(callbackUrl));
    const events = await eventsInLog(store);
    const [old, now] = [group(store), group(store)];
    const own = (token: number) =>
      store.writer.redis.hset(store.keys[0]?.lease('notifier') ?? '', 'token', token);
    await own(1);
    const from = await old.open(0, 1);
    await own(2);
    await now.open(0, 2);
    await expect(old.apply(0, from, events, 1)).rejects.toThrow(FencedError);
    expect(await told(store)).toEqual([]);
    await now.apply(0, from, events, 2);
    expect(await told(store)).toHaveLength(1);
    // Not even with a token that is still good: the cursor is elsewhere by now.
    await expect(old.apply(0, from, events, 2)).rejects.toThrow(FencedError);
    expect(await told(store)).toHaveLength(1);
  });
});

describe('The cursor of the notifier', () => {
  it('costs no commit for each event that concerns nobody', async () => {
    const { world, store } = await openWorld();
    let commits = 0;
    const counting: OpenEventStore = {
      ...store,
      commit: (request) => {
        commits++;
        return store.commit(request);
      },
    };
    await start(world, store, [group(counting)]);
    await appendEvents(store, 0, 2_500);
    await until(async () =>
      expect(Number((await cursorOf(store))?.split(' ')[1])).toBeGreaterThanOrEqual(1_000),
    );
    expect(commits).toBeLessThanOrEqual(3);
  });
});
