import { METHODS } from 'node:http';
import { Problem, sendProblem } from './problems.ts';
import type { App, Routes } from './types.ts';

/** CONNECT never reaches a route: Node closes its connection. */
const ROUTABLE = METHODS.filter((method) => method !== 'CONNECT');

/** What is asked of a path that nothing is registered for: 404, whatever the body. */
export function answerUnknownRoutes(app: App): void {
  const unknown = () => new Problem('not_found', 'There is nothing at this path.');
  app.setNotFoundHandler((request, reply) => sendProblem(request, reply, unknown()));
  app.addHook('onRequest', (request, _reply, done) => done(request.is404 ? unknown() : undefined));
}

/** Notes each path that is registered from now on, for `refuseOtherMethods`. */
export function notePaths(app: App): ReadonlySet<string> {
  const paths = new Set<string>();
  app.addHook('onRoute', ({ url }) => {
    // That of preflights, with CORS: every path there is, and every path there is not.
    if (url !== '*') paths.add(url);
  });
  return paths;
}

export function addRoutes(app: App, routes: readonly Routes[]): void {
  app.register(async (scope: App) => {
    for (const add of routes) add(scope);
  });
}

/** Adds to each path an answer to every method that it does not take, whatever HTTP may call it: 405 with `Allow`. */
export function refuseOtherMethods(app: App, paths: ReadonlySet<string>): void {
  const known: readonly string[] = app.supportedMethods;
  for (const method of ROUTABLE) if (!known.includes(method)) app.addHttpMethod(method);
  app.register(async (scope: App) => {
    for (const url of [...paths]) {
      const taken = ROUTABLE.filter((method) => scope.hasRoute({ method, url }));
      const allow = taken.join(', ');
      scope.route({
        method: ROUTABLE.filter((method) => !taken.includes(method)),
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
