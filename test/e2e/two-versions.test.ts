import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { freePort } from '../../deploy/local/servers.mjs';
import { copyToBreak } from '../support/broken-copy.ts';
import { type Client, createClient } from '../support/client.ts';
import { type Installation, type RoleProcess, waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

/** A checkout of newer code: another version of the jobs' read model, with one more column, and of a job's state. */
function newerCheckout(): string {
  const copy = copyToBreak();
  onTestFinished(copy.remove);
  const edit = (file: string, from: string | RegExp, to: string) => {
    const before = readFileSync(join(copy.dir, file), 'utf8');
    const after = before.replace(from, to);
    if (after === before) throw new Error(`${file} has changed: ${from} is not in it`);
    writeFileSync(join(copy.dir, file), after);
  };
  const table = 'src/projections/jobs/table.ts';
  edit(table, 'version: 2,', 'version: 3,');
  edit(table, "    id: 'text',", "    id: 'text',\n    kind: 'text',");
  edit(table, '    id: event.streamId,', "    id: event.streamId,\n    kind: data.queue + '/' + data.type,");
  edit('src/domain/jobs/state.ts', /fold: \d+,/, 'fold: 1000,');
  for (const file of readdirSync(join(copy.dir, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const path = join(copy.dir, 'src', file);
    const text = readFileSync(path, 'utf8');
    if (text.includes('jobs_v2')) writeFileSync(path, text.replaceAll('jobs_v2', 'jobs_v3'));
  }
  writeFileSync(
    join(copy.dir, 'migrations', '9000_jobs_v3.ts'),
    `import { sql } from 'kysely';
    export async function up(db) {
      await sql\`CREATE TABLE jobs_v3 (LIKE jobs_v2_g1 INCLUDING ALL, kind text NOT NULL);
        SELECT make_read_model('jobs', 3)\`.execute(db);
    }`,
  );
  return copy.dir;
}

type Api = { readonly client: Client; readonly process: RoleProcess };

/** Jobs go in through one API, and are asked for at another, which may be of the other version. */
function load(apis: () => readonly Api[], token: string) {
  const ids: string[] = [];
  const wrong: string[] = [];
  let on = true;
  const pick = () => apis()[Math.floor(Math.random() * apis().length)]?.client;
  const run = async () => {
    for (let n = 0; on; n++) {
      const body = { type: 'echo', payload: { n }, ...(n % 3 === 0 ? { orderingKey: `k${n % 9}` } : {}) };
      const made = await pick()?.send('POST', '/v1/jobs', { token, body });
      if (made?.status !== 202)
        wrong.push(`a job was answered ${made?.status}: ${JSON.stringify(made?.body)}`);
      const id = String(made?.body.id);
      ids.push(id);
      const headers = { 'consistent-with': made?.headers.get('position') ?? '' };
      const found = await pick()?.send('GET', `/v1/jobs/${id}`, { token, headers });
      if (found?.status !== 200)
        wrong.push(`${id} was answered ${found?.status}: ${JSON.stringify(found?.body)}`);
      await sleep(10);
    }
  };
  const running = Promise.all([run(), run()]);
  return {
    ids,
    wrong,
    async stop() {
      on = false;
      await running;
    },
  };
}

async function allEnded(world: World, view: string, jobs: number): Promise<void> {
  await waitUntil(
    async () => {
      const { rows } = await sql`SELECT FROM ${sql.table(view)} WHERE status = 'succeeded'`.execute(world.db);
      return rows.length === jobs;
    },
    `${view} to hold ${jobs} jobs that have ended`,
    30_000,
  );
}

async function verified(installation: Installation, root?: string): Promise<void> {
  const { code, stdout } = await installation.cli(['verify'], '', root);
  expect(`${code} ${stdout}`).toMatch(/^0 /);
}

it('a rolling deploy of a changed read model, and the way back: under load no error, and nothing lost', async () => {
  const { world, installation } = await sharedSetting();
  const newer = newerCheckout();
  const startApi = async (root?: string): Promise<Api> => {
    const port = String(await freePort());
    const process = await installation.start('api', { PORT: port }, root);
    return { client: createClient(`http://127.0.0.1:${port}`), process };
  };
  let apis = [await startApi()];
  const old = {
    projectors: await installation.start('projectors'),
    workers: await installation.start('workers'),
  };
  const { token } = await (apis[0]?.client ?? installation.client()).register();
  const running = load(() => apis, token);
  onTestFinished(() => running.stop());
  await waitUntil(() => running.ids.length > 200, 'jobs that only the old version has seen', 20_000);

  // Newer processes beside the old ones. Their API is ready once their read model is.
  expect((await installation.cli(['migrate'], '', newer)).code).toBe(0);
  const caughtUp = async () =>
    (
      await sql`SELECT FROM read_models WHERE projection = 'jobs' AND version = 3 AND caught_up_at IS NOT NULL`.execute(
        world.db,
      )
    ).rows.length === 1;
  expect(await caughtUp()).toBe(false);
  const starting = startApi(newer);
  expect(await Promise.race([starting, sleep(1_500, 'not ready')])).toBe('not ready');
  expect(await caughtUp()).toBe(false);
  const mid = { projectors: await installation.start('projectors', {}, newer) };
  const newApi = await starting;
  expect(await caughtUp()).toBe(true);
  apis = [...apis, newApi];
  const newWorkers = await installation.start('workers', {}, newer);
  await sleep(2_000);

  // The old API goes last: until then its projectors stay, though they were told to stop.
  const [oldApi] = apis;
  const stopping = old.projectors.stop();
  await sleep(1_500);
  expect(await Promise.race([stopping, 'still there'])).toBe('still there');
  await old.workers.stop();
  apis = [newApi];
  await sleep(500);
  expect(await oldApi?.process.stop()).toBe(0);
  expect(await stopping).toBe(0);
  await sleep(1_000);

  // And back: older code finds what newer code has migrated, and its own read model behind.
  const backProjectors = await installation.start('projectors');
  const backApi = await startApi();
  apis = [newApi, backApi];
  await installation.start('workers');
  await newWorkers.stop();
  await sleep(1_000);
  apis = [backApi];
  await sleep(500);
  expect(await newApi.process.stop()).toBe(0);
  expect(await mid.projectors.stop()).toBe(0);
  await sleep(500);
  await running.stop();

  expect(running.wrong).toEqual([]);
  await allEnded(world, 'jobs_v2', running.ids.length);
  await verified(installation);
  // The newer one has stood still since: it goes on from there.
  await backProjectors.stop();
  await installation.start('projectors', {}, newer);
  await allEnded(world, 'jobs_v3', running.ids.length);
  await verified(installation, newer);
});
