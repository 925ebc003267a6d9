import { describe, expect, it } from 'vitest';
import { sharedSetting } from '../support/setting.ts';

const password = 'correct horse battery';

describe('registering', () => {
  it('lets one of two win who register an email at the same instant', async () => {
    const { world, installation } = await sharedSetting();
    await installation.start('api');
    const client = installation.client();
    for (let round = 0; round < 10; round++) {
      const emails = [`Ada${round}@Example.com`, `ada${round}@example.com `, `ADA${round}@EXAMPLE.COM`];
      const answers = await Promise.all(
        emails.map((email) =>
          client.send('POST', '/v1/accounts', { body: { email: email.trim(), password, name: 'Ada' } }),
        ),
      );
      expect(answers.map((answer) => answer.status).sort()).toEqual([201, 409, 409]);
      const winner = answers.find((answer) => answer.status === 201);
      const { token } = await client.logIn(`ada${round}@example.com`, password);
      expect(token).toBeTruthy();
      const kept = await world.db.selectFrom('credentials').select('account_id').execute();
      expect(kept.map((row) => row.account_id)).toContain(winner?.body.id);
      // The losers leave neither a password nor a key behind.
      expect(kept).toHaveLength(round + 1);
      expect(await world.db.selectFrom('person_keys').select('account_id').execute()).toHaveLength(round + 1);
    }
  });

  it('works at once: log in, read me with the position, end the session', async () => {
    const { installation } = await sharedSetting();
    await Promise.all([installation.start('api'), installation.start('projectors')]);
    const client = installation.client();
    const made = await client.send('POST', '/v1/accounts', {
      body: { email: 'ada@example.com', password, name: 'Ada Lovelace' },
    });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/accounts/me');
    const { token, sessionId } = await client.logIn('ada@example.com', password);
    const me = await client.send('GET', '/v1/accounts/me', {
      token,
      headers: { 'consistent-with': String(made.headers.get('position')) },
    });
    expect(me.body, JSON.stringify(me.body)).toMatchObject({
      id: made.body.id,
      email: 'ada@example.com',
      name: 'Ada Lovelace',
      role: 'user',
    });
    expect(me.headers.get('etag')).toBe(made.headers.get('etag'));
    const ended = await client.send('DELETE', `/v1/sessions/${sessionId}`, { token });
    expect(ended.status).toBe(204);
    expect((await client.send('GET', '/v1/accounts/me', { token })).status).toBe(401);
  });
});

describe('an idempotency key', () => {
  it('gives the first answer again for the same body', async () => {
    const { world, installation } = await sharedSetting();
    await Promise.all([installation.start('api'), installation.start('projectors')]);
    const client = installation.client();
    const ada = await client.register();
    const ask = (key: string, format: string, token = ada.token) =>
      client.send('POST', '/v1/exports', {
        token,
        body: { dataset: 'events', format },
        headers: { 'idempotency-key': key },
      });

    const first = await ask('"k-1"', 'ndjson');
    const again = await ask('"k-1"', 'ndjson');
    expect(again.status).toBe(first.status);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('position')).toBe(first.headers.get('position'));
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(first.headers.get('idempotency-replayed')).toBeNull();

    const other = await ask('"k-1"', 'csv');
    expect(other.status).toBe(422);
    expect(other.body.code).toBe('idempotency_key_reused');

    const bob = await client.register();
    const his = await ask('"k-1"', 'ndjson', bob.token);
    expect(his.status).toBe(202);
    expect(his.body.id).not.toBe(first.body.id);

    const many = await Promise.all(Array.from({ length: 12 }, () => ask('"k-2"', 'ndjson')));
    expect(new Set(many.map((answer) => answer.body.id)).size).toBe(1);
    const streams = await world.db
      .selectFrom('stream_heads')
      .select('stream_id')
      .where('stream_id', 'like', 'exp-%')
      .execute();
    expect(streams.length).toBeLessThanOrEqual(3);
  });

  it('registers once, too', async () => {
    const { installation } = await sharedSetting();
    await installation.start('api');
    const client = installation.client();
    const ask = () =>
      client.send('POST', '/v1/accounts', {
        body: { email: 'ada@example.com', password, name: 'Ada' },
        headers: { 'idempotency-key': '"once"' },
      });
    const answers = await Promise.all(Array.from({ length: 5 }, ask));
    expect(answers.map((answer) => answer.status)).toEqual([201, 201, 201, 201, 201]);
    expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
    await client.logIn('ada@example.com', password);
  });
});
