import { Type } from 'typebox';
import { publicKeySet, type TokenKey } from '../access/tokens.ts';
import { asyncApi } from './asyncapi.ts';
import { problemTypes } from './problem-types.ts';
import { Problem } from './problems.ts';
import type { App, Routes } from './types.ts';

/** Able to serve, with a line for each dependency. */
export type Readiness = {
  readonly ok: boolean;
  readonly checks: Record<string, { readonly ok: boolean; readonly detail?: string }>;
};

const Live = Type.Object({ ok: Type.Boolean() }, { description: 'The process is alive.' });
const Ready = Type.Object(
  {
    ok: Type.Boolean(),
    checks: Type.Record(
      Type.String(),
      Type.Object({ ok: Type.Boolean(), detail: Type.Optional(Type.String()) }),
    ),
  },
  { description: 'A line for each dependency.' },
);
const Jwks = Type.Object(
  {
    keys: Type.Array(
      Type.Object({
        kty: Type.String(),
        crv: Type.String(),
        x: Type.String(),
        kid: Type.String(),
        use: Type.String(),
        alg: Type.String(),
      }),
    ),
  },
  { description: 'Public keys of the access tokens, RFC 7517.' },
);
const Document = Type.Unsafe<object>({
  type: 'object',
  additionalProperties: true,
  description: 'The document.',
});

const schemaOf = (operationId: string, summary: string) => ({ operationId, summary, tags: ['Operation'] });

/** Health, contracts, keys, and the pages to read them. None of them needs credentials. */
export function metaRoutes(deps: {
  /** Given 2 s; a rejection is "not ready". */
  readonly ready: () => Promise<Readiness>;
  readonly tokenKeys: readonly TokenKey[];
}): Routes {
  return (app) => {
    app.get(
      '/livez',
      {
        schema: { ...schemaOf('live', 'Is the process alive?'), response: { 200: Live } },
        config: { probe: 'live' },
      },
      async (_request, reply) => {
        reply.header('cache-control', 'no-store');
        return { ok: true };
      },
    );
    app.get(
      '/readyz',
      {
        schema: { ...schemaOf('ready', 'Is it able to serve?'), response: { 200: Ready, 503: Ready } },
        config: { probe: 'ready' },
      },
      async (request, reply) => {
        const readiness = await withinTime(deps.ready).catch((err: unknown): Readiness => {
          request.log.warn({ err }, 'readiness could not be found out');
          return { ok: false, checks: { readiness: { ok: false, detail: 'could not be found out' } } };
        });
        return reply
          .code(readiness.ok ? 200 : 503)
          .header('cache-control', 'no-store')
          .send(forEverybody(readiness));
      },
    );
    app.get(
      '/.well-known/jwks.json',
      { schema: { ...schemaOf('tokenKeys', 'Keys to verify access tokens with'), response: { 200: Jwks } } },
      async (_request, reply) => {
        reply.header('cache-control', 'public, max-age=300');
        return publicKeySet(deps.tokenKeys);
      },
    );
    app.get(
      '/openapi.json',
      { schema: { ...schemaOf('openApi', 'This API, as OpenAPI 3.1'), response: { 200: Document } } },
      async (_request, reply) => {
        reply.header('cache-control', 'public, max-age=300');
        return app.swagger();
      },
    );
    app.get(
      '/asyncapi.json',
      { schema: { ...schemaOf('asyncApi', 'The events, as AsyncAPI 3.0'), response: { 200: Document } } },
      async (_request, reply) => {
        reply.header('cache-control', 'public, max-age=300');
        return asyncApi();
      },
    );
    problemPages(app);
  };
}

/**
 * What drivers say names servers, addresses and users: on the port that anybody may reach, the rest of it. The
 * management port says all.
 */
function forEverybody({ ok, checks }: Readiness): Readiness {
  const shown = Object.entries(checks).map(([name, { ok, detail }]) => {
    const said = detail
      ?.replaceAll(/\b(E[A-Z]{3,}(?:_[A-Z]+)?) [^\s,;]+/g, '$1')
      .replaceAll(/"[^"]*"/g, '"…"');
    return [name, said === undefined ? { ok } : { ok, detail: said }] as const;
  });
  return { ok, checks: Object.fromEntries(shown) };
}

function withinTime(ready: () => Promise<Readiness>): Promise<Readiness> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('readiness took longer than 2 s')), 2_000);
  return Promise.race([ready(), promise]).finally(() => clearTimeout(timer));
}

function problemPages(app: App): void {
  const Params = Type.Object({ code: Type.String({ maxLength: 100 }) });
  app.get(
    '/problems/:code',
    {
      schema: {
        ...schemaOf('explainProblem', 'What a problem means, and what to do about it'),
        params: Params,
        produces: ['text/html'],
        response: { 200: Type.String({ description: 'A page.' }) },
      },
    },
    async (request, reply) => {
      const { code } = request.params;
      const type = Object.entries(problemTypes).find(([name]) => name === code)?.[1];
      if (!type) throw new Problem('not_found', 'There is no problem of this code.');
      return reply
        .type('text/html; charset=utf-8')
        .header('cache-control', 'public, max-age=3600')
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
        .send(
          `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${code}</title><style>body{font:16px/1.5 system-ui;max-width:40em;margin:4em auto;padding:0 1em}</style><h1>${type.title}</h1><p><code>${code}</code>, HTTP ${type.status}</p><p>${type.help}</p></html>`,
        );
    },
  );
}
