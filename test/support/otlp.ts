import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A span as a collector receives it, attributes flattened. `kind`: 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
export type ReceivedSpan = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly name: string;
  readonly kind: number;
  readonly startTimeMs: number;
  readonly endTimeMs: number;
  /** 0 unset, 1 ok, 2 error. */
  readonly status: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly resource: Readonly<Record<string, unknown>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
};

export type OtlpReceiver = {
  /** To be given as `otlpEndpoint`. */
  readonly url: string;
  /** Every span received so far, in order of arrival. */
  spans(): ReceivedSpan[];
  /** Waits until `found` answers something else than undefined. Rejects after `timeoutMs` (5,000) with the names of what did arrive. */
  until<T>(found: (spans: ReceivedSpan[]) => T | undefined, timeoutMs?: number): Promise<T>;
  close(): Promise<void>;
};

type Value = {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: number | string;
  doubleValue?: number;
  arrayValue?: { values?: Value[] };
};
type Attributes = { key: string; value: Value }[];
type SentSpan = {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: Attributes;
  status?: { code?: number };
  links?: { traceId: string; spanId: string }[];
};
type Export = {
  resourceSpans?: { resource?: { attributes?: Attributes }; scopeSpans?: { spans?: SentSpan[] }[] }[];
};

/** A collector of our own: takes OTLP/HTTP with JSON at `/v1/traces` on a free port of loopback. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const received: ReceivedSpan[] = [];
  const server = createServer((request, response) => {
    receive(request, response, received).catch((error: unknown) => {
      response.writeHead(400).end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: () => [...received],
    until: async (found, timeoutMs = 5_000) => {
      const deadline = performance.now() + timeoutMs;
      while (performance.now() < deadline) {
        const answer = found([...received]);
        if (answer !== undefined) return answer;
        await sleep(20);
      }
      throw new Error(
        `spans that were waited for did not come; came: ${received.map((s) => s.name).join(', ')}`,
      );
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function receive(
  request: IncomingMessage,
  response: ServerResponse,
  into: ReceivedSpan[],
): Promise<void> {
  if (request.method !== 'POST' || request.url !== '/v1/traces') {
    response.writeHead(404).end();
    return;
  }
  if (request.headers['content-type'] !== 'application/json') {
    response.writeHead(415).end('only JSON is understood here');
    return;
  }
  const body = JSON.parse(Buffer.concat(await request.toArray()).toString()) as Export;
  for (const { resource, scopeSpans } of body.resourceSpans ?? []) {
    const attributes = flat(resource?.attributes);
    for (const { spans } of scopeSpans ?? [])
      into.push(...(spans ?? []).map((span) => read(span, attributes)));
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
}

function read(span: SentSpan, resource: Record<string, unknown>): ReceivedSpan {
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId || undefined,
    name: span.name,
    kind: span.kind,
    startTimeMs: Number(span.startTimeUnixNano) / 1e6,
    endTimeMs: Number(span.endTimeUnixNano) / 1e6,
    status: span.status?.code ?? 0,
    attributes: flat(span.attributes),
    resource,
    links: (span.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
  };
}

function flat(attributes: Attributes = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plain(value)]));
}

function plain(value: Value): unknown {
  if (value.arrayValue !== undefined) return (value.arrayValue.values ?? []).map(plain);
  if (value.intValue !== undefined) return Number(value.intValue);
  return value.stringValue ?? value.boolValue ?? value.doubleValue;
}
