import { expect, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

test('a queue is paused and resumed from the command line, and the list says how full it is', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const cli = (...args: string[]) => installation.cli(['queues', ...args]);
  const queue = async (name: string) => {
    const { items } = JSON.parse((await cli('ls', '--json')).stdout);
    return items.find(({ id }: { id: string }) => id === name);
  };

  const planned = await cli('pause', 'default', '--dry-run');
  expect(planned).toEqual({ code: 0, stdout: 'default: would write QueuePaused\n', stderr: '' });
  expect(await queue('default')).toMatchObject({ paused: false, version: 0 });

  const paused = await cli('pause', 'default', 'nowhere', '--reason', 'moving house', '--yes');
  expect([paused.code, paused.stdout]).toEqual([1, 'default: paused\n']);
  expect(paused.stderr).toContain('There is no queue nowhere; there are default, ');
  const asked = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  await waitUntil(async () => (await queue('default')).waiting === 1, 'the job to wait');
  const { stdout } = await cli('ls');
  const [header = '', row = ''] = stdout.split('\n');
  expect(header.split(/ {2,}/).slice(0, 3)).toEqual(['QUEUE', 'STATE', 'WAITING']);
  expect(row.split(/ +/).slice(0, 3)).toEqual(['default', 'paused', '1']);

  const again = await cli('pause', 'default', '--dry-run', '--json');
  expect(JSON.parse(again.stdout)).toEqual({ id: 'default', dryRun: true, events: [] });
  const resumed = await cli('resume', 'default', '--reason', 'moved', '--yes', '--json');
  expect(JSON.parse(resumed.stdout)).toMatchObject({ id: 'default', paused: false, version: 2 });
  expect((await installation.cli(['jobs', 'watch', String(asked.body.id)])).code).toBe(0);
});
