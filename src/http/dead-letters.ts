import { type Static, Type } from 'typebox';
import type { Hmac } from '../access/signing.ts';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { JobAccepted } from '../commands/jobs/requests.ts';
import type { Settling, SettlingPayload } from '../domain/dead-letters.ts';
import { type JobId, parseStreamId } from '../domain/ids.ts';
import { DeadLetterReason } from '../domain/jobs/events.ts';
import type { FailedAttempt } from '../projections/dead-letters/attempts.ts';
import type { LetterFilter, LetterPlace, LetterView } from '../projections/dead-letters/queries.ts';
import type { Wanted } from '../projections/reading.ts';
import { notModified, revalidatedList } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { wantedOf } from './consistency.ts';
import { nextLink, readCursor, writeCursor } from './cursors.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { Cursor, Id, IdParams, Limit, NotModified, Status, Strict, Time, Version } from './schemas.ts';
import type { App, Opened, Routes } from './types.ts';

const DEFAULT_RATE = 50;
const SAMPLE = 10;

const Failure = Type.Object({
  name: Type.String(),
  message: Type.String(),
  fingerprint: Type.Optional(
    Type.String({ description: 'The same for failures of one kind at one place.', maxLength: 64 }),
  ),
});
const LetterStatus = Type.Enum(['dead', 'redriven', 'discarded']);
const letter = {
  id: { ...Id, description: 'The job’s.' },
  type: Type.String(),
  queue: Type.Optional(Type.String()),
  owner: Type.Optional(Id),
  orderingKey: Type.Optional(Type.String()),
  status: LetterStatus,
  reason: { ...DeadLetterReason, description: 'Why it was not tried again.' },
  attempts: Type.Integer({ minimum: 0, description: 'Attempts begun when it died.' }),
  deaths: Type.Integer({ minimum: 1, description: 'How often it died.' }),
  error: Failure,
  worker: Type.Optional(Type.String()),
  ignoredAbort: Type.Boolean({ description: 'Its handler did not end when it was told to.' }),
  waiting: Type.Integer({ minimum: 0, description: 'Jobs that are parked behind it, by its ordering key.' }),
  diedAt: Time,
  settledAt: Type.Optional(Time),
  settledBy: Type.Optional(Type.String()),
  settledFor: Type.Optional(Type.String({ description: 'The reason that was given.' })),
  traceId: Type.Optional(Type.String()),
  version: Version,
};
const Attempt = Type.Object({
  attempt: Type.Integer(),
  at: Time,
  error: Failure,
  stack: Type.Optional(Type.String()),
  worker: Type.Optional(Type.String()),
  traceId: Type.Optional(Type.String()),
  ignoredAbort: Type.Boolean(),
  final: Type.Boolean({ description: 'It made the job a dead letter.' }),
});
const Letters = Type.Object(
  { items: Type.Array(Type.Object(letter)), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of dead letters, the newest first.' },
);
const Letter = Type.Object(
  { ...letter, failures: Type.Array(Attempt, { description: 'Every attempt that failed, in order.' }) },
  { description: 'A dead letter.' },
);
const criteria = {
  type: Type.Optional(Type.String({ maxLength: 64 })),
  queue: Type.Optional(Type.String({ maxLength: 64 })),
  fingerprint: Type.Optional(Type.String({ maxLength: 64 })),
  orderingKey: Type.Optional(Type.String({ maxLength: 200 })),
  owner: Type.Optional(Type.String({ maxLength: 80 })),
  reason: Type.Optional(DeadLetterReason),
  from: Type.Optional(Time),
  to: Type.Optional(Time),
};
const Listing = Strict({
  ...criteria,
  status: Type.Optional(LetterStatus),
  limit: Type.Optional(Limit),
  cursor: Type.Optional(Cursor),
});
const Settle = Strict({
  filter: Strict({
    ...criteria,
    ids: Type.Optional(Type.Array(Type.String({ maxLength: 80 }), { minItems: 1, maxItems: 1000 })),
    all: Type.Optional(Type.Literal(true, { description: 'All of them: in place of any criterion.' })),
  }),
  reason: Reason,
  rate: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, default: DEFAULT_RATE, description: 'Letters a second.' }),
  ),
});
const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'A job goes through them; its progress and its result say {done, failed, total}.' },
);

export type DeadLetterRoutesDeps = {
  readonly hmac: Hmac;
  readonly opened: Opened;
  readonly contextOf: ContextOf;
  readonly listDeadLetters: (
    listing: LetterFilter & {
      readonly status: LetterView['status'];
      readonly before?: LetterPlace | undefined;
      readonly limit: number;
    },
    wanted: Wanted,
  ) => Promise<readonly LetterView[]>;
  readonly findDeadLetter: (id: JobId, wanted: Wanted) => Promise<LetterView | undefined>;
  readonly failedAttempts: (id: JobId) => Promise<readonly FailedAttempt[]>;
  /** Jobs that wait in each of these lanes. */
  readonly countWaiting: (lanes: readonly string[]) => Promise<ReadonlyMap<string, number>>;
  readonly settleLetters: (
    context: CommandContext & { readonly reason: string },
    settling: Settling,
    wanted: Pick<SettlingPayload, 'filter' | 'rate'>,
  ) => Promise<CommandResult<JobAccepted>>;
  readonly foreseeSettling: (
    filter: LetterFilter,
    sample: number,
  ) => Promise<{ readonly count: number; readonly ids: readonly string[] }>;
};

/** Jobs that failed for good: what happened to each, and running many of them again or giving them up. */
export function deadLetterRoutes(deps: DeadLetterRoutesDeps): Routes {
  return (app) => {
    list(app, deps);
    read(app, deps);
    settle(app, deps, 'redrive', 'Run the jobs of dead letters again, the oldest first');
    settle(app, deps, 'discard', 'Give dead letters up: what waits behind them goes on');
  };
}

function list(app: App, deps: DeadLetterRoutesDeps): void {
  app.get(
    '/v1/ops/dead-letters',
    {
      schema: {
        summary: 'List dead letters',
        tags: ['Operation'],
        operationId: 'listDeadLetters',
        querystring: Listing,
        response: { 200: Letters, 304: NotModified },
      },
      config: { auth: 'account', forbids: true, reads: 'dead-letters' },
    },
    async (request, reply) => {
      operatorOf(request);
      const { cursor, limit = 50, status = 'dead', ...filter } = request.query;
      const place = readCursor(deps.hmac, 'dead letters', cursor);
      const before = place && { diedAt: place.createdAt, id: place.id };
      // One more than asked for says whether there is a next page.
      const found = await deps.listDeadLetters(
        { ...filter, status, before, limit: limit + 1 },
        wantedOf(request),
      );
      const page = found.slice(0, limit);
      const waiting = await waitingBehind(deps, page);
      const letters = await Promise.all(page.map((each) => deps.opened(each.owner, each)));
      const items = letters.map((each) => shown(each, waiting));
      const last = page.at(-1);
      revalidatedList(reply);
      if (found.length <= limit || !last) return { items };
      const end = { createdAt: last.diedAt, id: last.id };
      const nextCursor = writeCursor(deps.hmac, 'dead letters', end);
      reply.header('link', nextLink(request.url, nextCursor));
      return { items, nextCursor };
    },
  );
}

function read(app: App, deps: DeadLetterRoutesDeps): void {
  app.get(
    '/v1/ops/dead-letters/:id',
    {
      schema: {
        summary: 'Read a dead letter, with every attempt that failed',
        tags: ['Operation'],
        operationId: 'readDeadLetter',
        params: IdParams,
        response: { 200: Letter, 304: NotModified },
      },
      config: { auth: 'account', forbids: true, reads: 'dead-letters' },
    },
    async (request, reply) => {
      operatorOf(request);
      const id: JobId | undefined = parseStreamId(request.params.id, 'job');
      const found = id && (await deps.findDeadLetter(id, wantedOf(request)));
      if (!id || !found) throw new Problem('not_found', 'There is no such dead letter.');
      const waiting = await waitingBehind(deps, [found]);
      const failed = await deps.opened(found.owner, await deps.failedAttempts(id));
      const failures = [...failed];
      const answer = { ...shown(await deps.opened(found.owner, found), waiting), failures };
      // Who waits behind it, and what fails when it is run again, are no events of the letter.
      const etag = `${found.version}-${answer.waiting}-${failures.length}`;
      if (notModified(request, reply, etag)) return reply.code(304).send(undefined);
      return answer;
    },
  );
}

function settle(app: App, deps: DeadLetterRoutesDeps, settling: Settling, summary: string): void {
  app.post(
    `/v1/ops/dead-letters/${settling}`,
    {
      schema: {
        summary,
        tags: ['Operation'],
        operationId: `${settling}DeadLetters`,
        querystring: DryRun,
        body: Settle,
        response: { 200: Foreseen, 202: Accepted },
      },
      config: { auth: 'account', command: true, forbids: true },
    },
    async (request, reply) => {
      operatorOf(request);
      const { reason, rate = DEFAULT_RATE } = request.body;
      const filter = filterOf(request.body.filter);
      if (request.query.dryRun) {
        const { count, ids } = await deps.foreseeSettling(filter, SAMPLE);
        return reply.code(200).send({ count, sample: ids.map((id) => ({ id, status: 'dead' })) });
      }
      const context = { ...reasonedContext(deps.contextOf, request, reason), reason };
      const done = doneOf(await deps.settleLetters(context, settling, { filter, rate }));
      commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
      return reply.code(202).send(done.body);
    },
  );
}

/** An empty filter is more often a mistake than a wish, so all letters have to be asked for. */
function filterOf({ all, ...filter }: Static<typeof Settle>['filter']): SettlingPayload['filter'] {
  const named = Object.keys(filter).length > 0;
  if (named === (all === true)) {
    throw new Problem('invalid_request', 'It is not clear which dead letters are meant; see errors.', {
      errors: [{ pointer: '/filter', detail: 'has at least one criterion, or `all` and nothing beside it' }],
    });
  }
  const errors = (filter.ids ?? []).flatMap((id, index) =>
    parseStreamId(id, 'job') ? [] : [{ pointer: `/filter/ids/${index}`, detail: 'is no id of a job' }],
  );
  if (errors.length === 0) return filter;
  throw new Problem('invalid_request', 'It is not clear which dead letters are meant; see errors.', {
    errors: errors.slice(0, SAMPLE),
  });
}

function waitingBehind({ countWaiting }: DeadLetterRoutesDeps, letters: readonly LetterView[]) {
  return countWaiting(letters.flatMap(({ status, lane }) => (status === 'dead' && lane ? [lane] : [])));
}

function shown({ lane, error, ...rest }: LetterView, waiting: ReadonlyMap<string, number>) {
  return { ...rest, error: failureOf(error), waiting: waiting.get(lane ?? '') ?? 0 };
}

/** As the projection wrote it. */
function failureOf(error: unknown): Static<typeof Failure> {
  const said: { name?: unknown; message?: unknown; fingerprint?: unknown } =
    typeof error === 'object' && error !== null ? error : {};
  return {
    name: String(said.name ?? 'Error'),
    message: String(said.message ?? ''),
    ...(said.fingerprint === undefined ? {} : { fingerprint: String(said.fingerprint) }),
  };
}
