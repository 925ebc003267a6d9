import fastifySwagger from '@fastify/swagger';
import type { FastifyContextConfig } from 'fastify';
import { BLOB_PATH } from '../blobs/signing.ts';
import * as parts from './openapi-parts.ts';
import type { App } from './types.ts';

type Operation = {
  parameters?: unknown[];
  responses: Record<string, { headers?: Record<string, unknown> } | unknown>;
  security?: unknown[];
};

const ref = (kind: string, name: string) => ({ $ref: `#/components/${kind}/${name}` });
const refs = (kind: string, names: readonly string[]) => names.map((name) => ref(kind, name));

/**
 * Makes `/openapi.json` from the routes' own schemas, and from what their `config` asks of the server: headers,
 * credentials and problems are written once, in the guards and here, and not with each route.
 */
export function describeApi(app: App): void {
  const configs = new Map<string, FastifyContextConfig>();
  app.addHook('onRoute', ({ method, url, config }) => {
    for (const name of Array.isArray(method) ? method : [method]) {
      configs.set(`${name.toLowerCase()} ${documentedPath(url)}`, config ?? {});
    }
  });
  app.register(fastifySwagger, {
    openapi: { ...parts.document, components: parts.components },
    // Paths are said in full: clients may have more than one server to choose from.
    stripBasePath: false,
    convertConstToEnum: false,
    transformObject: (found) => {
      if (!('openapiObject' in found)) return found.swaggerObject;
      const { openapiObject } = found;
      const paths: Record<string, Record<string, Operation>> = {};
      for (const [path, operations] of Object.entries(openapiObject.paths ?? {})) {
        const shown = documentedPath(path);
        paths[shown] = {};
        for (const [method, operation] of Object.entries(operations ?? {})) {
          const config = configs.get(`${method} ${shown}`) ?? {};
          paths[shown][method] = complete(operation as Operation, method, config);
        }
      }
      Object.assign(openapiObject, { paths });
      return openapiObject;
    },
  });
}

/** Fastify's `:id` and `*` as OpenAPI writes them. */
export function documentedPath(url: string): string {
  return url
    .replaceAll(/:(\w+)/g, '{$1}')
    .replace(`${BLOB_PATH}{*}`, `${BLOB_PATH}{key}`)
    .replace(`${BLOB_PATH}*`, `${BLOB_PATH}{key}`);
}

function complete(operation: Operation, method: string, config: FastifyContextConfig): Operation {
  const reading = revalidates(operation, method, config);
  const parameters = [
    ...(operation.parameters ?? []).map(renameKey),
    ...refs('parameters', [
      ...(config.command && method === 'post' ? ['IdempotencyKey'] : []),
      ...(config.command ? ['Durability'] : []),
      ...(config.reads ? ['ConsistentWith', 'Prefer'] : []),
      ...(reading ? ['IfNoneMatch'] : []),
      ...(config.auth === 'stream' ? ['LastEventId'] : []),
    ]),
  ];
  return {
    ...operation,
    ...(parameters.length > 0 ? { parameters } : {}),
    security: securityOf(config),
    responses: { ...withHeaders(operation, method, config), ...problemsOf(operation, method, config) },
  };
}

/** Who has it already is told so. Files say it of themselves. */
function revalidates({ responses }: Operation, method: string, { auth }: FastifyContextConfig): boolean {
  return method === 'get' && (auth === 'account' || auth === 'stream') && '304' in responses;
}

/** A wildcard has no name in Fastify. */
function renameKey(parameter: unknown): unknown {
  const named = typeof parameter === 'object' && parameter !== null && 'name' in parameter;
  return named && parameter.name === '*' ? { ...parameter, name: 'key' } : parameter;
}

function securityOf({ auth }: FastifyContextConfig): unknown[] {
  if (auth === 'account') return [{ accessToken: [] }];
  if (auth === 'stream') return [{ accessToken: [] }, { streamTicket: [] }];
  return [];
}

function withHeaders(operation: Operation, method: string, config: FastifyContextConfig) {
  const names = [
    ...(config.command ? ['Position', 'Durability'] : []),
    ...(config.command === true && method === 'post' ? ['Location', 'ETag'] : []),
    ...(config.command && method === 'post' ? ['Idempotency-Replayed'] : []),
    ...(revalidates(operation, method, config) ? ['ETag', 'Cache-Control'] : []),
    ...(config.auth === 'signed' ? ['ETag'] : []),
    ...(config.reads ? ['Preference-Applied', 'Position'] : []),
    ...(config.limits ? ['RateLimit', 'RateLimit-Policy'] : []),
    'Server-Timing',
  ];
  const headers = Object.fromEntries(names.map((name) => [name, ref('headers', name)]));
  return Object.fromEntries(
    Object.entries(operation.responses).map(([status, response]) => [
      status,
      typeof response === 'object' && response !== null ? { ...response, headers } : response,
    ]),
  );
}

function problemsOf(operation: Operation, method: string, config: FastifyContextConfig) {
  const body = 'requestBody' in operation;
  const statuses = [
    ...(body || operation.parameters || config.reads || config.auth === 'account' ? ['400'] : []),
    ...(config.auth === 'account' || config.auth === 'stream' ? ['401'] : []),
    ...(config.auth === 'signed' ? ['403', '416'] : []),
    ...(config.forbids ? ['403'] : []),
    ...(operation.parameters || config.reads ? ['404'] : []),
    ...(config.command && method === 'post' ? ['409', '422'] : []),
    ...(config.comesLater ? ['409'] : []),
    ...(config.reads ? ['410'] : []),
    // A DELETE takes none, and says so of one that comes.
    ...(body || method === 'delete' ? ['413', '415'] : []),
    ...(config.limits ? ['401', '429'] : []),
    ...(config.auth === 'stream' ? ['429'] : []),
    ...(config.command ? ['504'] : []),
    ...(config.probe ? [] : ['500', '503']),
  ].filter((status) => !(status in operation.responses));
  return Object.fromEntries(
    [...new Set(statuses)].map((status) => [status, ref('responses', `Problem${status}`)]),
  );
}
