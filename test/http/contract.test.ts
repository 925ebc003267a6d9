import { Compile } from 'typebox/schema';
import { expect, test } from 'vitest';
import type { Answer } from '../support/client.ts';
import { sharedSetting } from '../support/setting.ts';

type Response = { $ref?: string; headers?: object; content?: Record<string, { schema?: object }> };
type Document = {
  paths: Record<string, Record<string, { responses: Record<string, Response> }>>;
  components: { responses: Record<string, Response> };
};

/** Fields of which a client should find in the document that they may come. */
const TOLD =
  /^(?:position|durability|etag|location|idempotency-replayed|retry-after|ratelimit(?:-policy)?|www-authenticate|preference-applied)$/;

/** What the document does not say of an answer that was given. */
function untold(
  document: Document,
  method: string,
  path: string,
  { status, headers, body }: Answer,
): string[] {
  const listed = document.paths[path]?.[method.toLowerCase()]?.responses[status];
  if (!listed) return ['the status'];
  const shared = listed.$ref?.split('/').at(-1);
  const response = shared === undefined ? listed : document.components.responses[shared];
  const told = Object.keys(response?.headers ?? {}).map((name) => name.toLowerCase());
  const faults = [...headers.keys()].filter((name) => TOLD.test(name) && !told.includes(name));
  const type = headers.get('content-type')?.split(';')[0];
  if (type === undefined) return faults;
  const content = response?.content?.[type];
  if (!content) return [...faults, `the media type ${type}`];
  if (!type.endsWith('json') || !content.schema) return faults;
  const schema = { ...content.schema, components: document.components };
  const [, errors] = Compile(schema).Errors(body);
  const named =
    'properties' in schema && typeof schema.properties === 'object' ? schema.properties : undefined;
  const extra = named ? Object.keys(body).filter((name) => !(name in (named ?? {}))) : [];
  return [...faults, ...extra, ...errors.map((error) => `${error.instancePath} ${error.message}`)];
}

test('every answer, the good ones and the problems, is as /openapi.json says', async () => {
  const { installation } = await sharedSetting({ RATE_LIMITS: 'true' });
  await installation.startAll();
  const client = installation.client();
  const document = (await client.send('GET', '/openapi.json')).body as unknown as Document;
  const found: Record<string, string[]> = {};

  /** @param place the path as the document has it, where that is another one */
  async function ask(method: string, path: string, options: Options = {}, place = path): Promise<Answer> {
    const answer = await client.send(method, path, options);
    const faults = untold(document, method, place, answer);
    if (faults.length > 0) found[`${method} ${place} ${answer.status} ${answer.body.code ?? ''}`] = faults;
    return answer;
  }
  type Options = Parameters<typeof client.send>[2] & object;

  const person = { email: 'ada@example.org', password: 'correct horse battery' };
  const body = { ...person, name: 'Ada' };
  const registered = await ask('POST', '/v1/accounts', { body });
  for (const options of [{ body }, { body: {} }, { body, headers: { 'content-type': 'text/plain' } }]) {
    await ask('POST', '/v1/accounts', options);
  }
  const session = await ask('POST', '/v1/sessions', { body: person });
  await ask('POST', '/v1/sessions', { body: { ...person, password: 'wrong' } });
  const token = String(session.body.accessToken);
  const { refreshToken } = session.body;
  await ask('POST', '/v1/sessions/refresh', { body: { refreshToken } });
  await ask('POST', '/v1/sessions/refresh', { body: { refreshToken: 'x' } });
  await ask('GET', '/v1/sessions/current', { token }, '/v1/sessions/{id}');
  await ask('GET', '/v1/sessions/other', { token }, '/v1/sessions/{id}');

  const position = String(registered.headers.get('position'));
  await ask('GET', '/v1/accounts/me', {});
  for (const headers of [
    { 'consistent-with': position, prefer: 'wait=30' },
    { 'if-none-match': '"1"' },
    { 'consistent-with': 'x' },
    { 'consistent-with': '999.1.1' },
    { 'consistent-with': `${position}0000`, prefer: 'wait=0' },
  ]) {
    await ask('GET', '/v1/accounts/me', { token, headers });
  }

  const asks = { token, headers: { 'idempotency-key': '"once"' } };
  const wanted = { dataset: 'events', format: 'csv' };
  const asked = await ask('POST', '/v1/exports', { ...asks, body: wanted });
  await ask('POST', '/v1/exports', { ...asks, body: wanted });
  await ask('POST', '/v1/exports', { ...asks, body: { ...wanted, format: 'ndjson' } });
  await ask('POST', '/v1/exports', { token, body: {} });
  await ask('POST', '/v1/exports', { body: wanted });
  const id = String(asked.body.id);
  const own = { token, headers: { 'consistent-with': String(asked.headers.get('position')) } };
  await ask('GET', `/v1/exports/${id}`, own, '/v1/exports/{id}');
  await ask('GET', '/v1/exports/other', own, '/v1/exports/{id}');
  await ask('GET', `/v1/exports/${id}/progress`, own, '/v1/exports/{id}/progress');
  await client.finishedExport(id, token);
  await ask('GET', `/v1/exports/${id}`, own, '/v1/exports/{id}');
  await ask('GET', '/v1/exports/other/progress', own, '/v1/exports/{id}/progress');
  await ask('GET', '/v1/exports/other/download', own, '/v1/exports/{id}/download');
  const link = await ask('GET', `/v1/exports/${id}/download`, own, '/v1/exports/{id}/download');
  const url = String(link.body.url);
  for (const range of ['', 'bytes=0-1', 'bytes=99999-']) {
    await ask('GET', url, range ? { headers: { range } } : {}, '/v1/blobs/{key}');
  }
  await ask('GET', `${url}x`, {}, '/v1/blobs/{key}');
  await ask('GET', `/v1/jobs/${asked.body.jobId}`, own, '/v1/jobs/{id}');
  await ask('GET', '/v1/jobs/other', own, '/v1/jobs/{id}');
  const echo = { type: 'echo', payload: {} };
  const enqueued = await ask('POST', '/v1/jobs', { ...asks, body: echo });
  await ask('POST', '/v1/jobs', { ...asks, body: echo });
  await ask('POST', '/v1/jobs', { ...asks, body: { ...echo, payload: { other: true } } });
  for (const body of [{}, { ...echo, type: 'export' }, { ...echo, runAt: '2027-01-01T00:00:00Z' }]) {
    await ask('POST', '/v1/jobs', { token, body });
  }
  const batch = { jobs: [echo, { type: 'nothing' }] };
  await ask('POST', '/v1/jobs/batch', { ...asks, body: batch });
  await ask('POST', '/v1/jobs/batch', { ...asks, body: { jobs: [echo] } });
  await ask('POST', '/v1/jobs/batch', { token, body: { jobs: [] } });
  for (const change of ['cancel', 'retry']) {
    for (const which of [enqueued.body.id, asked.body.jobId, 'other']) {
      await ask('POST', `/v1/jobs/${which}/${change}`, { token }, `/v1/jobs/{id}/${change}`);
    }
  }
  for (const which of [asked.body.jobId, 'other']) {
    await ask('GET', `/v1/jobs/${which}/events?limit=1`, own, '/v1/jobs/{id}/events');
    const live = { token, headers: { accept: 'text/event-stream' } };
    await ask('GET', `/v1/jobs/${which}/events`, live, '/v1/jobs/{id}/events');
    await ask('GET', `/v1/jobs/${which}/events?lastEventId=9`, live, '/v1/jobs/{id}/events');
    await ask('GET', `/v1/jobs/${which}?version=1`, own, '/v1/jobs/{id}');
  }
  for (const query of ['?limit=1', '?limit=0']) await ask('GET', `/v1/jobs${query}`, own, '/v1/jobs');

  const { token: operator } = await installation.operator();
  const reason = 'to see what is answered';
  for (const who of [operator, token]) {
    await ask('GET', '/v1/ops/dead-letters?limit=1', { token: who }, '/v1/ops/dead-letters');
    await ask('GET', `/v1/ops/dead-letters/${asked.body.jobId}`, { token: who }, '/v1/ops/dead-letters/{id}');
    for (const settling of ['redrive', 'discard']) {
      const path = `/v1/ops/dead-letters/${settling}`;
      const body = { filter: { type: 'nothing' }, reason };
      await ask('POST', path, { token: who, body });
      await ask('POST', `${path}?dryRun=true`, { token: who, body }, path);
      await ask('POST', path, { token: who, body: { filter: {}, reason } });
    }
    for (const change of ['cancel', 'retry', 'discard']) {
      const path = `/v1/jobs/${enqueued.body.id}/${change}`;
      const place = `/v1/jobs/{id}/${change}`;
      await ask('POST', `${path}?dryRun=true`, { token: who, body: { reason } }, place);
      if (change === 'discard') await ask('POST', path, { token: who, body: { reason } }, place);
    }
    for (const name of ['overview', 'partitions', 'groups', 'workers', 'projections']) {
      await ask('GET', `/v1/ops/${name}`, { token: who });
    }
    for (const name of ['ledger', 'nobody']) {
      await ask('GET', `/v1/ops/groups/${name}`, { token: who }, '/v1/ops/groups/{name}');
    }
    for (const [kind, name] of [
      ['groups', 'notifier'],
      ['groups', 'ledger'],
      ['groups', 'nobody'],
      ['projections', 'jobs'],
      ['projections', 'nothing'],
    ] as const) {
      for (const change of ['pause', 'resume']) {
        const path = `/v1/ops/${kind}/${name}/${change}`;
        const place = `/v1/ops/${kind}/{name}/${change}`;
        await ask('POST', `${path}?dryRun=true`, { token: who, body: { reason } }, place);
        await ask('POST', path, { token: who, body: { reason } }, place);
        await ask('POST', path, { token: who, body: {} }, place);
      }
    }
    for (const name of ['notifier', 'projection:jobs@2', 'nobody']) {
      const path = `/v1/ops/groups/${name}/replay`;
      const place = '/v1/ops/groups/{name}/replay';
      const body = { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z', reason };
      const plan = await ask('POST', `${path}?dryRun=true`, { token: who, body }, place);
      for (const digest of [plan.body.digest, 'another']) {
        await ask('POST', path, { token: who, body: { ...body, plan: digest } }, place);
      }
    }
    for (const name of ['jobs', 'nothing']) {
      const path = `/v1/ops/projections/${name}/verify`;
      const place = '/v1/ops/projections/{name}/verify';
      for (const query of ['?dryRun=true', '']) await ask('POST', `${path}${query}`, { token: who }, place);
      await ask('POST', path, { token: who, body: { sample: 2 } }, place);
      const parked = `/v1/ops/projections/${name}/parked`;
      for (const query of ['', '?limit=0']) {
        await ask('GET', `${parked}${query}`, { token: who }, '/v1/ops/projections/{name}/parked');
      }
    }
    await ask('GET', '/v1/ops/events?limit=1', { token: who }, '/v1/ops/events');
    await ask('GET', '/v1/ops/events?limit=0', { token: who }, '/v1/ops/events');
    for (const which of [enqueued.body.id, 'other']) {
      await ask('GET', `/v1/ops/streams/${which}?limit=1`, { token: who }, '/v1/ops/streams/{id}');
    }
    await ask('GET', '/v1/ops/operations?limit=1', { token: who }, '/v1/ops/operations');
    await ask('GET', '/v1/ops/queues', { token: who });
    for (const name of ['webhooks', 'nowhere']) {
      await ask('GET', `/v1/ops/queues/${name}`, { token: who }, '/v1/ops/queues/{name}');
      for (const change of ['pause', 'resume']) {
        const place = `/v1/ops/queues/{name}/${change}`;
        const path = `/v1/ops/queues/${name}/${change}`;
        await ask('POST', path, { token: who, body: { reason } }, place);
        await ask('POST', `${path}?dryRun=true`, { token: who, body: { reason } }, place);
        await ask('POST', path, { token: who, body: {} }, place);
      }
    }
  }

  const lists = [
    '/v1/jobs',
    '/v1/schedules',
    '/v1/ops/dead-letters',
    '/v1/ops/operations',
    '/v1/ops/events',
    '/v1/ops/queues',
    '/v1/ops/queues/email',
  ];
  for (const path of lists) {
    const place = path.replace('queues/email', 'queues/{name}');
    const listed = await ask('GET', path, { token: operator }, place);
    const headers = { 'if-none-match': String(listed.headers.get('etag')) };
    expect((await ask('GET', path, { token: operator, headers }, place)).status).toBe(304);
  }
  const unknown = [
    ['GET', '/v1/webhooks/secret'],
    ['GET', '/v1/accounts/me'],
    ['GET', '/v1/jobs'],
    ['GET', '/v1/sessions/current', '/v1/sessions/{id}'],
    ['DELETE', '/v1/sessions/current', '/v1/sessions/{id}'],
    ['DELETE', '/v1/schedules/other', '/v1/schedules/{id}'],
    ['POST', '/v1/jobs/other/cancel', '/v1/jobs/{id}/cancel'],
  ] as const;
  for (const [method, path, place = path] of unknown) {
    await ask(method, path, {}, place);
    expect((await ask(method, `${path}?dryrun=true`, { token }, place)).status).toBe(400);
    const text = { token, headers: { 'content-type': 'text/plain' } };
    if (method === 'DELETE') await ask(method, path, { ...text, body: 'now' }, place);
  }
  await ask('POST', '/v1/jobs?dryRun=true', { token, body: echo }, '/v1/jobs');

  const schedule = { cron: '0 9 * * MON', timezone: 'Europe/Berlin', job: echo };
  const made = await ask('POST', '/v1/schedules', { ...asks, body: schedule });
  await ask('POST', '/v1/schedules', { ...asks, body: schedule });
  await ask('POST', '/v1/schedules', { ...asks, body: { ...schedule, missed: 'all' } });
  for (const body of [
    {},
    { ...schedule, cron: '0 0 30 2 *' },
    { ...schedule, job: { ...echo, type: 'export' } },
  ]) {
    await ask('POST', '/v1/schedules', { token, body });
  }
  const sees = { token, headers: { 'consistent-with': String(made.headers.get('position')) } };
  for (const query of ['', '?limit=0']) await ask('GET', `/v1/schedules${query}`, sees, '/v1/schedules');
  for (const which of [made.body.id, 'other']) {
    await ask('GET', `/v1/schedules/${which}`, sees, '/v1/schedules/{id}');
    await ask('DELETE', `/v1/schedules/${which}`, { token }, '/v1/schedules/{id}');
  }

  await ask('POST', '/v1/stream-tickets', { token, body: { path: `/v1/exports/${id}/progress` } });
  await ask('POST', '/v1/stream-tickets', { token, body: {} });
  for (const path of ['/livez', '/readyz', '/.well-known/jwks.json', '/openapi.json', '/asyncapi.json']) {
    await ask('GET', path);
  }
  for (const code of ['not_found', 'nothing']) await ask('GET', `/problems/${code}`, {}, '/problems/{code}');
  const erasing = '/v1/accounts/me/erasure';
  await ask('POST', erasing, { body: { password: person.password } });
  await ask('POST', erasing, { token, body: {} });
  await ask('POST', erasing, { token, body: { password: 'wrong' } });
  await ask('POST', erasing, { token, body: { reauthentication: token } });
  const another = await client.register();
  const { password } = another;
  const erased = await ask('POST', erasing, { token: another.token, body: { password } });
  for (const receipt of [String(erased.headers.get('location')), '/v1/erasures/none']) {
    await ask('GET', receipt, {}, '/v1/erasures/{receipt}');
  }
  for (let times = 0; times < 2; times++) {
    await ask('DELETE', '/v1/sessions/current', { token }, '/v1/sessions/{id}');
  }
  expect(found).toEqual({});
});
