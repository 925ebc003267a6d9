import { Type } from 'typebox';
import { callerOf } from './authentication.ts';
import type { Routes } from './types.ts';

const Secret = Type.Object(
  {
    secret: Type.String({
      description: 'As the libraries of Standard Webhooks take it.',
      examples: ['whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'],
    }),
  },
  { description: 'What the requests that your jobs send, and callbacks of your jobs, are signed with.' },
);

/** How receivers of an account's requests know them. */
export function webhookRoutes(deps: { readonly secretOf: (owner: string) => Buffer }): Routes {
  return (app) => {
    app.get(
      '/v1/webhooks/secret',
      {
        schema: {
          summary: 'Read the secret that your webhook calls are signed with',
          tags: ['Jobs'],
          operationId: 'readWebhookSecret',
          response: { 200: Secret },
        },
        config: { auth: 'account' },
      },
      async (request, reply) => {
        reply.header('cache-control', 'no-store');
        return { secret: `whsec_${deps.secretOf(callerOf(request).accountId).toString('base64')}` };
      },
    );
  };
}
