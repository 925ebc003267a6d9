import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createInstallation } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

it('the commands of the runbook rotate the master key, and what was sealed stays readable', async () => {
  const { world, installation } = await sharedSetting();
  const { redisUrl, databaseUrl, prefix } = world;
  const { api } = await installation.startAll();
  const ada = await installation.client().register();
  const job = { type: 'echo', payload: { said: 'before the rotation' } };
  const made = await installation.client().send('POST', '/v1/jobs', { token: ada.token, body: job });
  expect(made.status).toBe(202);
  await api.stop();

  const old = installation.environment.MASTER_KEY ?? '';
  const young = randomBytes(32).toString('base64');
  const { PORT: _, ...rest } = installation.environment;
  /** The same installation, with other master keys. */
  const within = async (MASTER_KEY: string) => {
    const environment = { ...rest, MASTER_KEY, BLOB_DIR: installation.blobDir };
    return createInstallation({ redisUrl, databaseUrl, prefix, environment });
  };
  const replaced = await within(young);
  await expect(replaced.start('api')).rejects.toThrow(/wrapped by master keys that MASTER_KEY does not name/);
  await expect(replaced.start('workers')).rejects.toThrow(/does not name/);
  await replaced.dispose();

  const rotating = await within(`${young}, ${old}`);
  const page = await readFile(
    join(import.meta.dirname, '../../docs/runbooks/rotate-the-master-key.md'),
    'utf8',
  );
  const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.trim().split('\n'),
  );
  expect(commands).toHaveLength(4);
  const outputs: string[] = [];
  for (const command of commands) {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
    const { code, stdout, stderr } = await rotating.cli(words.slice(2));
    expect([command, code, stderr]).toEqual([command, 0, '']);
    outputs.push(stdout);
  }
  expect(outputs[0]).toMatch(/ 0 +wraps new ones\n.* 1 +opens old ones/);
  expect(outputs[1]).toContain('of 1 people would be');
  expect(outputs[2]).toContain('of 1 people are wrapped by');
  expect(outputs[3]).toMatch(/ 1 +wraps new ones\n.* 0 +none: it may go/);
  const operations = await rotating.cli(['ops', 'ls', '--operation', 'keys.rotate', '--json']);
  expect(operations.code).toBe(0);
  await rotating.dispose();

  const after = await within(young);
  await after.start('api');
  const { token } = await after.client().logIn(ada.email, ada.password);
  expect((await after.client().send('GET', '/v1/accounts/me', { token })).body.email).toBe(ada.email);
  const { body } = await after.client().send('GET', `/v1/jobs/${made.body.id}`, { token });
  expect(body.result).toEqual(job.payload);
  await after.dispose();
});

it('a rotation that meets a damaged row does all others, says whose it is and leaves with 1', async () => {
  const { world, installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const [ada, bob] = [await installation.client().register(), await installation.client().register()];
  await world.db
    .updateTable('person_keys')
    .set({ wrapped_key: randomBytes(60) })
    .where('account_id', '=', ada.id)
    .execute();
  const { redisUrl, databaseUrl, prefix } = world;
  const { PORT: _, MASTER_KEY: old, ...rest } = installation.environment;
  const MASTER_KEY = `${randomBytes(32).toString('base64')},${old}`;
  const environment = { ...rest, MASTER_KEY, BLOB_DIR: installation.blobDir };
  const rotating = await createInstallation({ redisUrl, databaseUrl, prefix, environment });
  onTestFinished(() => rotating.dispose());
  // Two at once: each does what the other has not done.
  const rotate = ['keys', 'rotate', '--reason', 'a test', '--yes'];
  const both = await Promise.all([rotating.cli(rotate), rotating.cli(rotate)]);
  for (const { code, stderr } of both) {
    expect(code).toBe(1);
    expect(stderr).toContain(ada.id);
    expect(stderr).not.toContain(bob.id);
  }
  const { stdout } = await rotating.cli(['keys', 'ls']);
  expect(stdout).toMatch(/ 1 +wraps new ones\n.* 1 +opens old ones/);
  // A process that was not restarted with the new key says that it can't open anything of Bob now, and takes no harm.
  const me = await installation.client().send('GET', '/v1/accounts/me', { token: bob.token });
  expect([me.status, me.body.code]).toEqual([503, 'read_store_unavailable']);
});
