import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { sharedSetting } from '../support/setting.ts';

const page = join(import.meta.dirname, '..', '..', 'docs', 'how-to', 'schedule-a-job.md');

type Shown = { readonly method: string; readonly path: string; readonly body: unknown };

/** The requests of a page, in order: each `curl` in its blocks of shell. */
function requestsOf(text: string): Shown[] {
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = '']) => block);
  return blocks
    .flatMap((block) => block.split(/^curl /m).slice(1))
    .map((command) => ({
      method: /-X (\w+)/.exec(command)?.[1] ?? 'GET',
      path: /"\$URL([^"]+)"/.exec(command)?.[1] ?? '',
      body: JSON.parse(/-d '([\s\S]*?)'/.exec(command)?.[1] ?? 'null'),
    }));
}

it('the requests of docs/how-to/schedule-a-job.md make a schedule, show it and end it', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const requests = requestsOf(await readFile(page, 'utf8'));
  expect(requests.map(({ method }) => method)).toEqual(['POST', 'GET', 'GET', 'DELETE']);
  const answers: { status: number; body: Record<string, unknown> }[] = [];
  let id = '';
  let position: string | null = null;
  for (const { method, path, body } of requests) {
    const headers = position === null || method !== 'GET' ? {} : { 'consistent-with': position };
    const asked = { token, headers, ...(body === null ? {} : { body }) };
    const answer = await client.send(method, path.replace('$ID', id), asked);
    answers.push(answer);
    id ||= String(answer.body.id);
    position = answer.headers.get('position') ?? position;
  }
  const [made, list, read, deleted] = answers;
  expect(made).toMatchObject({ status: 201, body: { version: 1 } });
  expect(new Date(String(made?.body.nextRunAt)).getUTCDay()).not.toBe(0);
  const shown = {
    ...{ id, cron: '0 9 * * MON-FRI', timezone: 'Europe/Berlin', missed: 'once', version: 1 },
    ...{ nextRunAt: made?.body.nextRunAt, job: { type: 'echo', payload: { report: 'daily' } } },
  };
  expect(read).toMatchObject({ status: 200, body: shown });
  expect(list).toMatchObject({ status: 200, body: { items: [shown] } });
  expect(deleted?.status).toBe(204);
});
