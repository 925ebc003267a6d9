import { Readable } from 'node:stream';
import { Type } from 'typebox';
import type { SessionCheck } from '../access/sessions.ts';
import type { Caller } from '../access/tokens.ts';
import { signBlobUrl } from '../blobs/signing.ts';
import type { requestExport } from '../commands/exports.ts';
import { ExportDataset, ExportFormat } from '../domain/exports.ts';
import { type ExportId, parseStreamId, partitionOf } from '../domain/ids.ts';
import type { ExportView } from '../projections/exports.ts';
import type { Wanted } from '../projections/reading.ts';
import { callerOf } from './authentication.ts';
import { notModified } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { type FindOne, untilClosed, wantedOf } from './consistency.ts';
import type { Streams } from './draining.ts';
import { failureOf } from './job-failure.ts';
import { Problem } from './problems.ts';
import { Failure, Id, IdParams, NotModified, Status, Strict, Time, Version } from './schemas.ts';
import {
  follow,
  LastEventIdQuery,
  lastEventId,
  STREAM_HEADERS,
  TicketQuery,
  type WatchReadModel,
} from './streams.ts';
import type { Bound, Routes } from './types.ts';

/**
 * Download URLs of one quarter of an hour are the same, so that a cache in front of us serves the second
 * download; they are good for 15 to 30 minutes.
 */
const URL_STEP_MS = 15 * 60_000;

const ExportRequest = Strict({ dataset: ExportDataset, format: ExportFormat });
const Accepted = Type.Object(
  { id: Id, version: Version, jobId: Id, status: Status },
  { description: 'It will be made; ask for it at Location, or follow it at …/progress.' },
);
const Export = Type.Object(
  {
    id: Id,
    dataset: ExportDataset,
    format: ExportFormat,
    status: Status,
    progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percent.' }),
    rows: Type.Integer({ minimum: 0 }),
    bytes: Type.Integer({ minimum: 0, description: 'Of the file, compressed.' }),
    etaSeconds: Type.Optional(Type.Integer({ minimum: 0, description: 'At the pace so far.' })),
    attempts: Type.Integer({ minimum: 0 }),
    error: Type.Optional(Failure),
    createdAt: Time,
    startedAt: Type.Optional(Time),
    finishedAt: Type.Optional(Time),
    traceId: Type.Optional(Type.String()),
    version: Version,
  },
  { description: 'An export.' },
);
const Download = Type.Object(
  {
    url: Type.String({ format: 'uri-reference', description: 'Needs no other credentials. Supports Range.' }),
    expiresAt: Time,
    sha256: Type.String(),
    bytes: Type.Integer({ minimum: 0 }),
  },
  { description: 'Where the file is.' },
);
const ProgressQuery = Strict({ ticket: TicketQuery, lastEventId: LastEventIdQuery });

const schemaOf = (operationId: string, summary: string) => ({ operationId, summary, tags: ['Exports'] });

export type ExportDeps = {
  readonly contextOf: ContextOf;
  readonly requestExport: Bound<typeof requestExport>;
  readonly findExport: FindOne<ExportView>;
  /** Signs download URLs. */
  readonly blobSecret: Buffer;
  readonly watchReadModel: WatchReadModel;
  readonly streams: Streams;
  readonly checkSession: SessionCheck;
  readonly now?: () => number;
};

export function exportRoutes(deps: ExportDeps): Routes {
  const { now = () => Date.now() } = deps;

  async function own(caller: Caller, text: string, wanted: Wanted): Promise<ExportView & { id: ExportId }> {
    const id: ExportId | undefined = parseStreamId(text, 'exp');
    const owner = caller.role === 'operator' ? undefined : caller.accountId;
    const found = id && (await deps.findExport(id, owner, wanted));
    if (!found || !id) throw new Problem('not_found', 'There is no such export of yours.');
    return { ...found, id };
  }

  return (app) => {
    app.post(
      '/v1/exports',
      {
        schema: {
          ...schemaOf('requestExport', 'Ask for a file of your events; an operator gets everybody’s'),
          body: ExportRequest,
          response: { 202: Accepted },
        },
        config: { auth: 'account', command: true },
      },
      async (request, reply) => {
        const scope = callerOf(request).role === 'operator' ? 'all' : 'own';
        const input = { ...request.body, scope } as const;
        const done = doneOf(await deps.requestExport(deps.contextOf(request), input));
        commandAnswer(reply, done, { status: 202, location: `/v1/exports/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );

    app.get(
      '/v1/exports/:id',
      {
        schema: {
          ...schemaOf('readExport', 'Read an export'),
          params: IdParams,
          response: { 200: Export, 304: NotModified },
        },
        config: { auth: 'account', reads: 'exports' },
      },
      async (request, reply) => {
        const found = await own(callerOf(request), request.params.id, wantedOf(request));
        if (notModified(request, reply, found.version)) return reply.code(304).send(undefined);
        return shown(found, now());
      },
    );

    app.get(
      '/v1/exports/:id/download',
      {
        schema: {
          ...schemaOf('downloadExport', 'Get a signed URL of the file'),
          params: IdParams,
          response: { 200: Download },
        },
        config: { auth: 'account', reads: 'exports', comesLater: true },
      },
      async (request, reply) => {
        // Who was just told that it is done must not be told that it is not.
        const wanted: Wanted = { ...wantedOf(request), newest: true };
        const { file, status, bytes } = await own(callerOf(request), request.params.id, wanted);
        if (status !== 'succeeded' || !file) {
          throw new Problem('not_ready', `The export is ${status}; there is no file yet.`);
        }
        const { blob: key, fileName: name, sha256 } = file;
        const expiresAt = (Math.ceil(now() / URL_STEP_MS) + 1) * URL_STEP_MS;
        const blob = { key, name, mediaType: 'application/gzip', expiresAt, sha256 };
        reply.header('cache-control', 'private, no-store');
        return {
          url: signBlobUrl(blob, deps.blobSecret),
          expiresAt: new Date(expiresAt).toISOString(),
          sha256,
          bytes,
        };
      },
    );

    app.get(
      '/v1/exports/:id/progress',
      {
        schema: {
          ...schemaOf('followExport', 'Follow an export live'),
          params: IdParams,
          querystring: ProgressQuery,
          response: {
            200: Type.Unsafe<Readable>({
              type: 'string',
              description:
                'Server-sent events: `progress`, then `succeeded`, `failed` or `cancelled`, each with the export as data and its version as id; `resync` where the id was unknown.',
            }),
            204: Type.Null({ description: 'You have seen its final event.' }),
          },
          produces: ['text/event-stream'],
        },
        config: { auth: 'stream', reads: 'exports' },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        // What a hint tells of may not be on a replica yet, and there may be no hint after it.
        const wanted: Wanted = { ...wantedOf(request), newest: true };
        const { id, version, status } = await own(caller, request.params.id, wanted);
        const known = lastEventId(request.headers['last-event-id'], request.query.lastEventId);
        if (isFinal(status) && known === version) return reply.code(204).send(null);
        if (request.method === 'HEAD') return reply.headers(STREAM_HEADERS).send(Readable.from([]));
        const events = follow({
          known,
          read: () => own(caller, id, wanted),
          show: (value) => ({
            event: isFinal(value.status) ? value.status : 'progress',
            data: shown(value, now()),
            final: isFinal(value.status),
          }),
          watch: () => deps.watchReadModel('exports', partitionOf(id)),
          signal: deps.streams.open(untilClosed(reply), caller.accountId),
          allowed: async () => (await deps.checkSession(caller)) !== 'ended',
          onFailure: (err) => request.log.warn({ err, id }, 'live stream broke off'),
        });
        // As a stream of bytes, so that Fastify waits for slow readers and ends it when they leave.
        return reply.headers(STREAM_HEADERS).send(Readable.from(events, { objectMode: false }));
      },
    );
  };
}

function isFinal(status: ExportView['status']): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}

/** Without the file's place in the blob store, and without the stack of a failure. */
function shown({ file: _file, owner: _owner, error, ...found }: ExportView, now: number) {
  const eta = etaSeconds(found, now);
  return {
    ...found,
    ...(error === undefined ? {} : { error: failureOf(error) }),
    ...(eta === undefined ? {} : { etaSeconds: eta }),
  };
}

function etaSeconds(found: Pick<ExportView, 'status' | 'progress' | 'startedAt'>, now: number) {
  const { status, progress, startedAt } = found;
  if (status !== 'running' || progress <= 0 || startedAt === undefined) return undefined;
  const seconds = (now - Date.parse(startedAt)) / 1000;
  return Math.max(0, Math.round((seconds * (100 - progress)) / progress));
}
