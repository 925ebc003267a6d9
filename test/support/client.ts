import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';

export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
};
export type ExportedEvent = {
  id: string;
  type: string;
  streamId: string;
  version: number;
  position: string;
  time: string;
  data: Record<string, unknown>;
};

/** A person with an account and an open session, as an API client would be. */
export type Person = {
  readonly id: string;
  readonly email: string;
  readonly password: string;
  readonly token: string;
  readonly sessionId: string;
};

export type Client = ReturnType<typeof createClient>;

export function createClient(url: string) {
  async function send(
    method: string,
    path: string,
    options: { body?: unknown; token?: string; headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const response = await fetch(new URL(path, url), {
      method,
      headers: {
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
        // On a slow machine a read model may take longer than the five seconds that an answer waits if nothing is said.
        ...(options.headers?.['consistent-with'] === undefined ? {} : { prefer: 'wait=30' }),
        ...options.headers,
      },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith('{') ? JSON.parse(text) : {},
    };
  }

  async function logIn(email: string, password: string) {
    const answer = await send('POST', '/v1/sessions', { body: { email, password } });
    if (answer.status !== 201) throw new Error(`logging in: ${answer.status} ${JSON.stringify(answer.body)}`);
    return { token: String(answer.body.accessToken), sessionId: String(answer.body.sessionId), answer };
  }

  async function register(): Promise<Person> {
    const email = `${randomBytes(6).toString('hex')}@example.com`;
    const password = 'correct horse battery';
    const made = await send('POST', '/v1/accounts', { body: { email, password, name: 'Ada' } });
    if (made.status !== 201) throw new Error(`registering: ${made.status} ${JSON.stringify(made.body)}`);
    const { token, sessionId } = await logIn(email, password);
    return { id: String(made.body.id), email, password, token, sessionId };
  }

  /** Polls until the export has one of the final statuses. */
  async function finishedExport(id: string, token: string, timeoutMs = 60_000): Promise<Answer> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const answer = await send('GET', `/v1/exports/${id}`, { token });
      if (['succeeded', 'failed', 'cancelled'].includes(String(answer.body.status))) return answer;
      if (Date.now() > deadline)
        throw new Error(`export is still: ${answer.status} ${JSON.stringify(answer.body)}`);
      await sleep(50);
    }
  }

  async function download(
    id: string,
    token: string,
  ): Promise<{ text: string; answer: Answer; file: Response }> {
    const answer = await send('GET', `/v1/exports/${id}/download`, { token });
    if (answer.status !== 200) throw new Error(`download: ${answer.status} ${JSON.stringify(answer.body)}`);
    const file = await fetch(new URL(String(answer.body.url), url));
    return { text: gunzipSync(Buffer.from(await file.arrayBuffer())).toString('utf8'), answer, file };
  }

  /** Asks for an export of one's events, waits for it, and gives back what is in the file. */
  async function exportEvents(token: string): Promise<{ requested: Answer; events: ExportedEvent[] }> {
    const requested = await send('POST', '/v1/exports', {
      token,
      body: { dataset: 'events', format: 'ndjson' },
    });
    if (requested.status !== 202)
      throw new Error(`export: ${requested.status} ${JSON.stringify(requested.body)}`);
    const id = String(requested.body.id);
    const finished = await finishedExport(id, token);
    if (finished.body.status !== 'succeeded') throw new Error(`export: ${JSON.stringify(finished.body)}`);
    const { text } = await download(id, token);
    return {
      requested,
      events: text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    };
  }

  return { url, send, logIn, register, finishedExport, download, exportEvents };
}
