import fastifyCors from '@fastify/cors';
import fastifyJwt from '@fastify/jwt';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { type FastifyBaseLogger, LogController, type RawServerDefault } from 'fastify';
import type { TakeLimit } from '../access/limits.ts';
import type { SessionCheck } from '../access/sessions.ts';
import type { Hmac } from '../access/signing.ts';
import { jwtOptions, type TokenSettings } from '../access/tokens.ts';
import { type HttpMetrics, httpTelemetry, observeRequest } from '../telemetry/http.ts';
import { authenticateRequests } from './authentication.ts';
import { revalidateLists } from './caching.ts';
import { readConsistency } from './consistency.ts';
import { serveDocs } from './docs.ts';
import { drainOnClose, type Streams } from './draining.ts';
import { answerFailure } from './failures.ts';
import { readJsonBodies, refuseForbiddenParameters } from './json.ts';
import { limitRequests } from './limits.ts';
import { describeApi } from './openapi.ts';
import { needNoReasonToAsk } from './operators.ts';
import { Problem } from './problems.ts';
import { addRoutes, answerUnknownRoutes, notePaths, refuseOtherMethods } from './routing.ts';
import type { App, Routes } from './types.ts';
import { refuseUnasked } from './unasked.ts';
import { answerClientErrors, answerConnect, refuseExpectations } from './unroutable.ts';
import { validatorCompiler } from './validation.ts';

export type ServerDeps = {
  readonly logger: FastifyBaseLogger;
  /** Default: no spans and no metrics of requests. */
  readonly metrics?: HttpMetrics;
  readonly routes: readonly Routes[];
  readonly tokens: TokenSettings;
  readonly checkSession: SessionCheck;
  readonly hmac: Hmac;
  readonly takeLimit: TakeLimit;
  /** Live streams, ended when the server stops. The routes that open them hold the same. */
  readonly streams: Streams;
  readonly settings?: ServerSettings;
};

export type ServerSettings = {
  /** Origins whose pages may call; none: no CORS. `*` is all of them. */
  readonly corsOrigins?: readonly string[];
  /** Fastify's `trustProxy`: whose X-Forwarded-For is believed. Default: nobody's. */
  readonly trustProxy?: boolean | string;
  /** How long requests under way may take when the server stops. Default 10 s. */
  readonly drainMs?: number;
  /** Connections beyond it are closed at once. Default 20,000. */
  readonly maxConnections?: number;
  /** How long a request may take to arrive. Default 30 s. */
  readonly requestTimeoutMs?: number;
  /** Default 1 MiB. */
  readonly bodyLimitBytes?: number;
};

const BODY_LIMIT_BYTES = 1_048_576;
const REQUEST_TIMEOUT_MS = 30_000;

/** What pages of other origins may read of an answer. */
const EXPOSED_HEADERS = [
  'allow',
  'durability',
  'etag',
  'idempotency-replayed',
  'link',
  'location',
  'position',
  'preference-applied',
  'ratelimit',
  'ratelimit-policy',
  'retry-after',
  'server-timing',
  'www-authenticate',
];

/**
 * The API, built and not listening: `inject` works on it, `listen` serves it, `close` drains it.
 * The order of hooks is the order of checks: stopping, who calls, how often, the body, then what it says.
 */
export function createServer(deps: ServerDeps): App {
  const { metrics, settings = {} } = deps;
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS } = settings;
  const app: App = Fastify<RawServerDefault>({
    loggerInstance: deps.logger,
    // Spans and metrics say what each request was; a line for each besides would cost more than it tells.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (logger) => logger,
    genReqId: () => crypto.randomUUID(),
    trustProxy: settings.trustProxy ?? false,
    bodyLimit: settings.bodyLimitBytes ?? BODY_LIMIT_BYTES,
    // From the first byte to the last of a request: against clients that send one byte a minute.
    requestTimeout: requestTimeoutMs,
    http: {
      // Unless told, Node looks every 30 s, and gives headers a minute.
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(2_000, requestTimeoutMs / 10),
      // `refuseNoHost` says it, as a problem.
      requireHostHeader: false,
    },
    keepAliveTimeout: 72_000,
    // `drainOnClose` answers newcomers itself, as a problem; connections are cut when it is done.
    return503OnClosing: false,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 500 },
    frameworkErrors: (error, request, reply) => {
      if (metrics) observeRequest(request, reply, metrics);
      // No hook sees it.
      reply.header('x-content-type-options', 'nosniff');
      answerFailure(error, request, reply);
    },
    clientErrorHandler: answerClientErrors,
  })
    .withTypeProvider<TypeBoxTypeProvider>()
    .setValidatorCompiler(validatorCompiler);
  answerConnect(app);
  app.server.maxConnections = settings.maxConnections ?? 20_000;

  readJsonBodies(app);
  app.setErrorHandler((error, request, reply) => answerFailure(error, request, reply));

  if (metrics) app.register(httpTelemetry(metrics));
  describeApi(app);
  app.register(fastifyJwt, jwtOptions(deps.tokens));
  if (settings.corsOrigins && settings.corsOrigins.length > 0) allowOrigins(app, settings.corsOrigins);
  app.register(onRoot((root) => guard(root, deps)));
  const paths = notePaths(app);
  app.register(async (scope: App) => serveDocs(scope));
  addRoutes(app, deps.routes);
  refuseOtherMethods(app, paths);
  return app;
}

/** Hooks, in the order of checks. As a plugin, or they would run before those of the plugins above. */
function guard(app: App, deps: ServerDeps): void {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
  drainOnClose(app, deps.streams, deps.settings?.drainMs ?? 10_000);
  refuseNoHost(app);
  refuseExpectations(app);
  answerUnknownRoutes(app);
  authenticateRequests(app, deps);
  limitRequests(app, deps.takeLimit);
  app.addHook('preValidation', (request, _reply, done) => {
    refuseForbiddenParameters(request.query);
    refuseForbiddenParameters(request.params);
    done();
  });
  refuseUnasked(app);
  needNoReasonToAsk(app);
  readConsistency(app);
  revalidateLists(app);
}

/** RFC 9112, 3.2: of HTTP/1.1 a request names its host. */
function refuseNoHost(app: App): void {
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    const missing = raw.headers.host === undefined && raw.httpVersion === '1.1';
    done(missing ? new Problem('invalid_request', 'A request says with Host whom it is for.') : undefined);
  });
}

/** A plugin whose hooks hold for the whole server, by Fastify's own sign for it. */
function onRoot(plugin: (app: App) => void) {
  return Object.assign(async (app: App) => plugin(app), { [Symbol.for('skip-override')]: true });
}

function allowOrigins(app: App, origins: readonly string[]): void {
  app.register(fastifyCors, {
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: EXPOSED_HEADERS,
    strictPreflight: false,
    maxAge: 600,
  });
}
