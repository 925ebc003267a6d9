import { type IncomingHttpHeaders, type IncomingMessage, request as overHttp } from 'node:http';
import { request as overHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { Address } from './addresses.ts';

const MAX_HEADER_BYTES = 16 * 1024;

export type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most as many bytes as were asked for. */
  readonly body: Buffer;
  readonly truncated: boolean;
};

/**
 * Sends one request to addresses that were checked, over a connection of its own that ends with it. Follows no
 * redirect. What the receiver says beyond `maxBytes` is not read. Rejects with the signal's reason when that comes.
 *
 * `node:http` and not `fetch`: its connections take a lookup of ours, so that what was checked is what is connected
 * to, while certificate and `Host` go by the name; fetch would need undici as a dependency for that.
 */
export function send(request: {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
  readonly addresses: readonly Address[];
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}): Promise<Answer> {
  const { url, method, body, addresses, maxBytes, signal } = request;
  const headers = { ...request.headers, ...(body ? { 'content-length': String(body.length) } : {}) };
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => reject(signal.aborted ? signal.reason : error);
    const sent = (url.protocol === 'https:' ? overHttps : overHttp)(
      url,
      {
        method,
        headers,
        agent: false,
        lookup: answering(addresses),
        maxHeaderSize: MAX_HEADER_BYTES,
        signal,
      },
      (response) => read(response, maxBytes).then(resolve, fail),
    );
    sent.on('error', fail);
    // Without a listener Node would leave a receiver that switches protocols hanging on the line.
    sent.on('upgrade', (_, socket) => {
      socket.destroy();
      fail(new Error('the receiver wants to speak another protocol'));
    });
    sent.end(body);
  });
}

/** Not called for a host that is an address itself: that one is connected to as it stands, and was checked. */
function answering(addresses: readonly Address[]): LookupFunction {
  return (_hostname, options, callback) => {
    if (options.all) callback(null, [...addresses]);
    else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
  };
}

async function read(response: IncomingMessage, maxBytes: number): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Leaving the loop early destroys the connection.
  for await (const chunk of response) {
    const part = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    chunks.push(part);
    bytes += part.length;
    if (bytes > maxBytes) break;
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks).subarray(0, maxBytes),
    truncated: bytes > maxBytes,
  };
}
