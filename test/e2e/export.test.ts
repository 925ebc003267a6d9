import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ExportId, jobOfExport, partitionOf } from '../../src/domain/ids.ts';
import { parsePosition } from '../../src/domain/position.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { waitUntil } from '../support/installation.ts';
import { startOtlpReceiver } from '../support/otlp.ts';
import { sharedSetting } from '../support/setting.ts';

describe('an export of events', () => {
  it('holds exactly the caller’s events up to its own request', async () => {
    const { world, installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const [ada, bob] = await Promise.all([client.register(), client.register()]);
    await client.exportEvents(bob.token);
    const first = await client.exportEvents(ada.token);
    const before = await world.db.selectFrom('ledger').selectAll().where('owner', '=', ada.id).execute();
    const second = await client.exportEvents(ada.token);

    const position = parsePosition(String(second.requested.headers.get('position')));
    if (!position) throw new Error('no position');
    await waitUntil(async () => {
      const head = await world.db
        .selectFrom('ledger')
        .select('seq')
        .where('partition', '=', position.partition)
        .where('seq', '>=', position.seq)
        .executeTakeFirst();
      return head !== undefined;
    }, 'the ledger');
    const rows = await world.db.selectFrom('ledger').selectAll().where('owner', '=', ada.id).execute();
    const exported = new Set(second.events.map((event) => event.id));
    expect(exported.size).toBe(second.events.length);

    // Every event in the file is hers; every event of hers from before the request is in the file. Times don't tell which
    // these are: each process reckons Redis' clock for itself, to within a round trip.
    const hers = new Set(rows.map((row) => row.event_id));
    for (const event of second.events) expect(hers.has(event.id), `${event.type} is hers`).toBe(true);
    expect(before.length).toBeGreaterThan(first.events.length);
    for (const row of before) expect(exported.has(row.event_id), row.type).toBe(true);
    const own = second.events.filter(
      (event) => parsePosition(event.position)?.partition === position.partition,
    );
    expect(own.at(-1)).toMatchObject({
      type: 'ExportRequested',
      streamId: second.requested.body.id,
      position: second.requested.headers.get('position'),
    });
    for (const event of first.events) expect(exported.has(event.id)).toBe(true);
    expect(second.events.map((event) => event.type)).toEqual(
      expect.arrayContaining(['AccountRegistered', 'SessionStarted', 'JobCompleted']),
    );

    // Personal fields are readable to her, and to nobody who reads the tables.
    expect(second.events.find((event) => event.type === 'AccountRegistered')?.data).toMatchObject({
      email: ada.email,
      name: 'Ada',
    });
    const tables = JSON.stringify([rows, await world.db.selectFrom('ledger').selectAll().execute()]);
    expect(tables).not.toContain(ada.email);
  });

  it('comes as CSV, too, each field as the ledger has it', async () => {
    const { installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const requested = await client.send('POST', '/v1/exports', {
      token: ada.token,
      body: { dataset: 'events', format: 'csv' },
    });
    await client.finishedExport(String(requested.body.id), ada.token);
    const { text, file } = await client.download(String(requested.body.id), ada.token);
    const lines = text.split('\r\n').filter(Boolean);
    expect(lines[0]).toBe('id,type,streamId,version,position,time,data');
    expect(
      lines
        .slice(1)
        .some((line) => line.includes('AccountRegistered') && line.includes(`""email"":""${ada.email}""`)),
    ).toBe(true);
    expect(file.headers.get('content-type')).toBe('application/gzip');
    expect(file.headers.get('content-encoding')).toBeNull();
  });

  it('holds everybody’s events for an operator, with personal fields sealed', async () => {
    const { installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const operator = await installation.operator();
    const { events } = await client.exportEvents(operator.token);
    const registered = events.find((event) => event.streamId === ada.id);
    expect(registered).toMatchObject({
      type: 'AccountRegistered',
      data: { email: expect.stringMatching(/^sealed:/) },
    });
  });

  it('is completed, once, when its worker is killed in the middle', async () => {
    const receiver = await startOtlpReceiver();
    onTestFinished(() => receiver.close());
    const { world, installation } = await sharedSetting({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    await installation.start('api');
    const client = installation.client();
    const ada = await client.register();
    // The ledger stands still, so the export waits in the middle of its run.
    const worker = await installation.start('workers');
    const requested = await client.send('POST', '/v1/exports', {
      token: ada.token,
      body: { dataset: 'events', format: 'ndjson' },
    });
    const id = String(requested.body.id);
    const redis = new Redis(world.redisUrl);
    onTestFinished(() => redis.disconnect());
    const jobId = jobOfExport(id as ExportId);
    const keys = createKeys(world.prefix, 4)[partitionOf(jobId)];
    await waitUntil(
      async () => (await redis.get(keys?.state(jobId) ?? ''))?.includes('"phase":"running"') ?? false,
      'the job to run',
    );
    await worker.kill();
    // What a worker leaves that dies between its file and its commit.
    const folder = join(installation.blobDir, 'exports', id);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, '1-left.ndjson.gz'), 'of a run that was never accepted');
    await Promise.all([installation.start('projectors'), installation.start('workers')]);
    const finished = await client.finishedExport(id, ada.token);
    expect(finished.body.status, JSON.stringify(finished.body)).toBe('succeeded');
    const events = await world.db
      .selectFrom('ledger')
      .select(['type', 'data'])
      .where('stream_id', '=', `job-${id.slice(4)}`)
      .orderBy('version')
      .execute();
    expect(events.filter((event) => event.type === 'JobCompleted')).toHaveLength(1);
    expect(
      events.filter((event) => event.type === 'JobStarted').map((event) => JSON.parse(event.data)),
    ).toMatchObject([
      { attempt: 1, recovered: false },
      { attempt: 1, recovered: true, alone: true },
    ]);
    const { text } = await client.download(id, ada.token);
    expect(text).toContain('ExportRequested');
    expect(await readdir(join(installation.blobDir, 'exports', id))).toHaveLength(1);
    // It was recovered in a process of its own, whose span belongs to the run that its worker has in hand.
    await receiver.until((spans) => {
      const alone = spans.find(({ name }) => name === 'job attempt');
      return spans.find(({ name, spanId }) => name === 'process export' && spanId === alone?.parentSpanId);
    });
  });
});
