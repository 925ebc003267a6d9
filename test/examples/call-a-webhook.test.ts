import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { expect, it, onTestFinished } from 'vitest';
import { signatureHeaders } from '../../src/consumers/http-request/signature.ts';
import { createReceiver } from './webhook-receiver.ts';

const root = join(import.meta.dirname, '..', '..');

it('docs/how-to/call-a-webhook.md shows the code that is run here', async () => {
  const page = await readFile(join(root, 'docs/how-to/call-a-webhook.md'), 'utf8');
  const [, shown = ''] = /```ts\n\/\/ receiver\.ts\n([\s\S]*?)```/.exec(page) ?? [];
  expect(shown).toBe(await readFile(join(import.meta.dirname, 'webhook-receiver.ts'), 'utf8'));
});

it('its receiver acts once on what we sign, and on nothing else', async () => {
  const key = Buffer.alloc(32, 1);
  const secret = `whsec_${key.toString('base64')}`;
  const acted: unknown[] = [];
  const server = createReceiver(secret, (body) => acted.push(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const post = async (headers: Record<string, string>, body: string) =>
    (await fetch(url, { method: 'POST', headers, body })).status;

  const body = '{"status":"succeeded","result":"ä"}';
  const now = new Date();
  const ours = signatureHeaders(key, 'job-1', now, Buffer.from(body));
  expect(await post(ours, body)).toBe(204);
  expect(await post(ours, body)).toBe(204);
  expect(acted).toEqual([JSON.parse(body)]);

  // What the published library signs is the same.
  expect(ours['webhook-signature']).toBe(new Webhook(secret).sign('job-1', now, body));

  const old = signatureHeaders(key, 'job-2', new Date(now.getTime() - 600_000), Buffer.from(body));
  const foreign = signatureHeaders(Buffer.alloc(32, 2), 'job-3', now, Buffer.from(body));
  expect(await post(ours, body.replace('succeeded', 'failed'))).toBe(401);
  expect(await post({ ...ours, 'webhook-id': 'job-4' }, body)).toBe(401);
  expect(await post(old, body)).toBe(401);
  expect(await post(foreign, body)).toBe(401);
  expect(await post({}, body)).toBe(401);
  expect(acted).toHaveLength(1);
});
