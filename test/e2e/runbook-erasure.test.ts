import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

it('every command of the runbook of erasure does what it says', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const ada = await installation.client().register();
  const page = await readFile(join(import.meta.dirname, '../../docs/runbooks/erasure.md'), 'utf8');
  const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.trim().split('\n'),
  );
  expect(commands).toHaveLength(4);
  const outputs: string[] = [];
  for (const command of commands) {
    const words = [...command.replace('"$ACCOUNT"', ada.id).matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, bare]) => quoted ?? bare ?? '',
    );
    expect(words.slice(0, 2)).toEqual(['npx', 'millrace']);
    const { code, stdout, stderr } = await installation.cli(words.slice(2));
    expect([command, code, stderr]).toEqual([command, 0, '']);
    outputs.push(stdout);
  }
  expect(outputs[1]).toContain('would be erased');
  expect(outputs[2]).toContain('is being erased');
  await waitUntil(async () => {
    const { stdout } = await installation.cli(['accounts', 'erasures']);
    return stdout.includes(ada.id) && !stdout.includes('not yet');
  }, 'the erasure to be complete');
});
