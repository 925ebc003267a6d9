import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Installation, waitUntil } from '../support/installation.ts';
import { startReceiver } from '../support/receiver.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

/** Somebody who is told of ends of jobs; by the ids of these. */
async function receiver() {
  const { url: origin, received } = await startReceiver();
  return { origin, told: () => received.map(({ body }): string => JSON.parse(body).id) };
}

/** Jobs that have ended, and were told of. */
async function past(jobs: number) {
  const hook = await receiver();
  const { world, installation } = await sharedSetting({
    HTTP_REQUEST_ALLOW: hook.origin,
    HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.1/32',
  });
  const startWorkers = () => installation.start('workers', { INSTANCE_ID: 'one' });
  const [workers] = await Promise.all([
    startWorkers(),
    installation.start('api'),
    installation.start('projectors'),
  ]);
  const client = installation.client();
  const { token } = await installation.operator();
  const job = { type: 'echo', payload: {}, callbackUrl: `${hook.origin}/hook` };
  const asked = await client.send('POST', '/v1/jobs/batch', {
    token,
    body: { jobs: Array.from({ length: jobs }, () => job) },
  });
  const ended = (asked.body.items as { id: string }[]).map(({ id }) => id).toSorted();
  await waitUntil(() => new Set(hook.told()).size === jobs, 'all to be told of', 60_000);
  // The requests that told of them are jobs, too, and have ended: nobody is told of those.
  await waitUntil(async () => (await completed(world)) === 2 * jobs, 'the ledger', 30_000);
  const replay = (body: object, query = '') =>
    client.send('POST', `/v1/ops/groups/notifier/replay${query}`, {
      token,
      body: { reason: 'they lost it', ...body },
    });
  return { ...{ hook, world, installation, client, token, workers, startWorkers, ended, replay } };
}

async function completed(world: World): Promise<number> {
  const rows = await world.db.selectFrom('ledger').select('seq').where('type', '=', 'JobCompleted').execute();
  return rows.length;
}

/** Of each job that replays enqueued: which one, and what it tells of. */
async function replayed(world: World): Promise<{ replay: string; about: string }[]> {
  const rows = await world.db
    .selectFrom('ledger')
    .select(['data', 'meta'])
    .where('type', '=', 'JobEnqueued')
    .where('meta', 'like', '%"replay":{"id"%')
    .execute();
  return rows.map(({ data, meta }) => ({
    replay: JSON.parse(meta).replay.id,
    about: JSON.parse(data).payload.body.id,
  }));
}

describe('A replay', () => {
  it('with side effects does each once, though the worker that does it is killed in the middle', async () => {
    const { hook, world, client, token, workers, startWorkers, ended, replay } = await past(60);
    const to = new Date().toISOString();
    const from = new Date(Date.now() - 3_600_000).toISOString();
    const { status, body: plan } = await replay({ from, to }, '?dryRun=true');
    expect([status, plan]).toMatchObject([200, { events: 120, jobs: { 'http.request': 60 }, from, to }]);
    const asked = await replay({ from, to, sideEffects: 'on', rate: 20, plan: plan.digest });
    expect(asked.status).toBe(202);
    const location = String(asked.headers.get('location'));
    await waitUntil(async () => (await replayed(world)).length >= 10, 'some to be replayed', 30_000);
    await workers.kill();
    expect((await replayed(world)).length).toBeLessThan(60);
    await startWorkers();

    const read = async () => (await client.send('GET', location, { token })).body;
    await waitUntil(async () => (await read()).status === 'succeeded', 'the replay to end', 90_000);
    expect((await read()).result).toEqual({ sideEffects: 'on', events: 120, jobs: 60 });
    expect((await replayed(world)).map(({ about }) => about).toSorted()).toEqual(ended);
    // Each: one that the worker was telling when it was killed is told a third time, before the last one its second.
    const times = (id: string) => hook.told().filter((told) => told === id).length;
    await waitUntil(() => ended.every((id) => times(id) >= 2), 'all to be told again', 30_000);

    const { body } = await client.send('GET', '/v1/ops/operations?operation=group.replay', { token });
    expect(body.items).toMatchObject([
      {
        target: 'notifier',
        reason: 'they lost it',
        parameters: { sideEffects: 'on', events: 120, rate: 20 },
      },
    ]);
  }, 240_000);

  it('is refused where its plan is missing, or stale; a retry of the request gets the first answer', async () => {
    const { client, token, replay } = await past(2);
    const from = new Date(Date.now() - 3_600_000).toISOString();
    expect(await replay({ from, sideEffects: 'on' })).toMatchObject({
      status: 400,
      body: { errors: [{ pointer: '/plan' }] },
    });
    // What is only counted need not be confirmed.
    const counted = await replay({ from, sideEffects: 'off' });
    expect(counted.status).toBe(202);
    await waitUntil(
      async () =>
        (await client.send('GET', `/v1/jobs/${counted.body.id}`, { token })).body.status === 'succeeded',
      'the events to be counted',
    );
    const { body: plan } = await replay({ from }, '?dryRun=true');
    const retry = (wanted: object) =>
      client.send('POST', '/v1/ops/groups/notifier/replay', {
        ...{ token, headers: { 'idempotency-key': '"once"' } },
        body: { reason: 'they lost it', ...wanted },
      });
    const first = await retry({ from, plan: plan.digest });
    expect(first.status).toBe(202);
    await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
    await waitUntil(
      async () => (await replay({ from }, '?dryRun=true')).body.events !== plan.events,
      'another job to end',
    );
    expect(await replay({ from, plan: plan.digest })).toMatchObject({
      status: 409,
      body: { code: 'plan_stale' },
    });
    // With its end named, the plan is what it was.
    expect((await replay({ from, to: plan.to, plan: plan.digest })).status).toBe(202);
    const again = await retry({ from, plan: plan.digest });
    expect([again.status, again.body.id, again.headers.get('idempotency-replayed')]).toEqual([
      202,
      first.body.id,
      'true',
    ]);
  });

  it('to a read model is refused, and what to do instead is named', async () => {
    const { installation } = await sharedSetting();
    await installation.start('projectors');
    const cli = (...args: string[]) => installation.cli(['replay', '--from', '1h', '--dry-run', ...args]);
    const model = await cli('--group', 'projection:jobs@2');
    expect([model.code, model.stderr]).toEqual([1, expect.stringContaining('millrace projections rebuild')]);
    const type = await cli('--group', 'notifier', '--type', 'SessionStarted');
    expect([type.code, type.stderr]).toEqual([1, expect.stringContaining('it reacts to JobCompleted')]);
    expect((await cli('--group', 'nothing')).stderr).toContain('There is no group nothing');
    const blind = await installation.cli([
      ...['replay', '--group', 'notifier', '--from', '1h', '--reason', 'why not', '--yes'],
      ...['--side-effects', 'on'],
    ]);
    expect([blind.code, blind.stderr]).toEqual([2, expect.stringContaining('--plan')]);
  });
});

/** The commands of the page, with what the reader has to fill in. */
async function runPage(installation: Installation, values: Record<string, string>) {
  const page = await readFile(join(import.meta.dirname, '../../docs/runbooks/replay.md'), 'utf8');
  const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.trim().split('\n'),
  );
  const run = async (command = '') => {
    const filled = command.replaceAll(/"\$([A-Z]+)"/g, (_, name) => `"${values[name]}"`);
    const words = [...filled.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
    expect(words.slice(0, 2)).toEqual(['npx', 'millrace']);
    const { code, stdout, stderr } = await installation.cli(words.slice(2));
    expect([command, code, stderr]).toEqual([command, 0, '']);
    return stdout;
  };
  return { commands, run };
}

describe('docs/runbooks/replay.md', () => {
  it('leads from a loss at their side to everything being told again, by commands that work as they stand', async () => {
    const { hook, installation, world, ended } = await past(15);
    const values: Record<string, string> = {
      FROM: new Date(Date.now() - 3_600_000).toISOString(),
      TO: new Date().toISOString(),
    };
    const { commands, run } = await runPage(installation, values);
    const [plan, off, on, watch, cancel, retry, who, ...rest] = commands;
    expect(rest).toEqual([]);
    const planned = await run(plan);
    expect(planned).toContain('notifier would be given 30 events');
    values.PLAN = /--plan (\w+)/.exec(planned)?.[1] ?? '';
    expect(await run(off)).toContain('{"sideEffects":"off","events":30,"jobs":15}');
    expect(await replayed(world)).toEqual([]);

    // Slow enough to be cancelled in the middle, by a command that may take seconds to start.
    const begun = await run(on?.replace('--rate 20', '--rate 1'));
    values.JOB = /job-\w+/.exec(begun)?.[0] ?? '';
    await waitUntil(async () => (await replayed(world)).length >= 1, 'some to be replayed', 30_000);
    await run(cancel);
    const job = async () =>
      JSON.parse((await installation.cli(['jobs', 'show', values.JOB ?? '', '--json'])).stdout);
    await waitUntil(async () => (await job()).status === 'cancelled', 'the replay to end', 30_000);
    expect((await replayed(world)).length).toBeLessThan(15);
    await run(retry);
    await run(watch);
    expect((await job()).result).toEqual({ sideEffects: 'on', events: 30, jobs: 15 });
    await waitUntil(async () => (await replayed(world)).length === 15, 'the ledger');
    await waitUntil(() => hook.told().length === 30, 'all to be told again', 30_000);
    expect(hook.told().slice(15).toSorted()).toEqual(ended);
    expect(await run(who)).toMatch(/group\.replay +notifier/);
  }, 180_000);
});
