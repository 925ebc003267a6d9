import { Problem, sendProblem } from './problems.ts';
import type { App, Routes } from './types.ts';

/** What is asked of a path that nothing is registered for. */
export function answerUnknownRoutes(app: App): void {
  app.setNotFoundHandler((request, reply) =>
    sendProblem(request, reply, new Problem('not_found', 'There is nothing at this path.')),
  );
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Adds the features' routes, and for each of their paths an answer to every other method: 405 with `Allow`. */
export function addRoutes(app: App, routes: readonly Routes[]): void {
  const allowed = new Map<string, Set<string>>();
  app.register(async (scope: App) => {
    scope.addHook('onRoute', ({ method, url }) => {
      const methods = allowed.get(url) ?? new Set();
      for (const name of Array.isArray(method) ? method : [method]) methods.add(name);
      allowed.set(url, methods);
    });
    for (const add of routes) add(scope);
  });
  app.register(async (scope: App) => {
    for (const [url, methods] of allowed) {
      const allow = [...methods].join(', ');
      const others = METHODS.filter((method) => !methods.has(method));
      scope.route({
        method: others,
        url,
        schema: { hide: true },
        // Before the body, of which nobody here would know what it may be.
        onRequest: (_request, _reply, done) => {
          done(new Problem('method_not_allowed', `This path takes ${allow}.`, { headers: { allow } }));
        },
        handler: (_request, reply) => reply.code(405).send(),
      });
    }
  });
}
