import { Type } from 'typebox';
import type { Hmac } from '../access/signing.ts';
import { callerOf } from './authentication.ts';
import { Strict } from './schemas.ts';
import { issueTicket, TICKET_SECONDS } from './tickets.ts';
import type { Routes } from './types.ts';

const TicketRequest = Strict({
  path: Type.String({
    pattern: '^/v1/[A-Za-z0-9/_-]+$',
    maxLength: 200,
    examples: ['/v1/exports/exp-0fA1b2C3d4E5f6G7h8I9j0/progress'],
  }),
});
const Ticket = Type.Object(
  { ticket: Type.String(), path: Type.String(), expiresIn: Type.Integer({ description: 'Seconds.' }) },
  { description: 'Send it as ?ticket= to that path.' },
);

export function streamTicketRoutes(deps: { readonly hmac: Hmac; readonly now?: () => number }): Routes {
  const { hmac, now = () => Date.now() } = deps;
  return (app) => {
    app.post(
      '/v1/stream-tickets',
      {
        schema: {
          summary: 'Get a ticket for one live stream, where no header can be set (EventSource)',
          description:
            'Changes nothing, so it takes no Idempotency-Key: each ticket is a new one, good for a minute.',
          tags: ['Sessions'],
          operationId: 'issueStreamTicket',
          body: TicketRequest,
          response: { 200: Ticket },
        },
        config: { auth: 'account' },
      },
      async (request, reply) => {
        reply.header('cache-control', 'no-store');
        const { path } = request.body;
        return {
          ticket: issueTicket(hmac, callerOf(request), path, now()),
          path,
          expiresIn: TICKET_SECONDS,
        };
      },
    );
  };
}
