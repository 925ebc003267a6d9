import { createHmac } from 'node:crypto';

/**
 * The headers by which a receiver knows who sent a request, and when: Standard Webhooks, so that it finds a library
 * in its language. `HMAC-SHA-256(secret, "<id>.<timestamp>.<body>")`, as base64.
 * Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 *
 * @param id the same for every attempt: a receiver that has seen it need not act again
 */
export function signatureHeaders(
  secret: Buffer,
  id: string,
  sentAt: Date,
  body: Buffer,
): Readonly<Record<string, string>> {
  const timestamp = Math.floor(sentAt.getTime() / 1000);
  const signed = createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest('base64');
  return {
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': `v1,${signed}`,
  };
}
