import fastifySwaggerUi from '@fastify/swagger-ui';
import type { App } from './types.ts';

/** Swagger UI from the package itself: nothing is fetched from elsewhere, so it works offline. */
export function serveDocs(app: App): void {
  app.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    staticCSP: {
      'default-src': "'none'",
      'connect-src': "'self'",
      'font-src': "'self'",
      'img-src': ["'self'", 'data:'],
      'script-src': "'self'",
      // Swagger UI writes style attributes.
      'style-src': ["'self'", "'unsafe-inline'"],
      'base-uri': "'none'",
      'frame-ancestors': "'none'",
    },
    uiConfig: { deepLinking: true, tryItOutEnabled: true },
  });
}
