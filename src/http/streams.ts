import { setTimeout as delay } from 'node:timers/promises';
import { Type } from 'typebox';

/** Clients that lost their connection come back after this long. */
const RETRY_MS = 2_000;
/** Proxies cut connections that are silent for a minute or so. */
export const HEARTBEAT_MS = 15_000;

/** Hints that a read model may have moved on. The truth is what is read after one. */
export type ReadModelWatch = {
  /**
   * Resolves on a hint that came since the last call, or at the next one; after `timeoutMs` or when `signal` is
   * aborted without one. Never rejects.
   */
  next(timeoutMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
};

/** Begins to collect hints of one partition of a projection (its name, without version). */
export type WatchReadModel = (projection: string, partition: number) => ReadModelWatch;

/** Where hints are not to be had: looks again every half second. */
export const pollReadModel: WatchReadModel = () => ({
  next: (timeoutMs, signal) => delay(Math.min(timeoutMs, 500), undefined, { signal }).catch(() => undefined),
  close: () => undefined,
});

/** The header fields of a live stream: nothing on the way may hold it back, change or keep it. */
export const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const;

export const TicketQuery = Type.Optional(
  Type.String({ maxLength: 1000, description: 'From POST /v1/stream-tickets.' }),
);
export const LastEventIdQuery = Type.Optional(
  Type.String({ maxLength: 40, description: 'As Last-Event-ID.' }),
);

/** Whether `Accept` names server-sent events: who takes anything gets what is not live. */
export function wantsStream(accept: string | undefined): boolean {
  const ranges = accept?.split(',') ?? [];
  return ranges.some((range) => /^\s*text\/event-stream\s*(;(?!\s*q=0(\.0*)?\s*$).*)?$/i.test(range));
}

export type StreamEvent = {
  /** What a client brings back as Last-Event-ID. Without: no place to resume from. */
  readonly id?: number | string;
  readonly event: string;
  readonly data: unknown;
};

/** The first line of each stream. */
export const RETRY_TEXT = `retry: ${RETRY_MS}\n\n`;
export const HEARTBEAT_TEXT = ': still here\n\n';

/** JSON has no raw line breaks, so nothing in the data can end the event. */
export function formatEvent({ id, event, data }: StreamEvent): string {
  const place = id === undefined ? '' : `id: ${id}\n`;
  return `${place}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** What the client knows is not ours: it begins anew. */
export const RESYNC_TEXT = formatEvent({ event: 'resync', data: {} });

/** `Last-Event-ID`, or `?lastEventId=` where no header can be set. `unknown`: there is one, but none of ours. */
export function lastEventId(
  header: string | string[] | undefined,
  parameter: string | undefined,
): number | 'unknown' | undefined {
  const text = header === undefined ? parameter : String(header);
  if (text === undefined || text === '') return undefined;
  return /^\d{1,15}$/.test(text) ? Number(text) : 'unknown';
}

/**
 * Follows one thing whose versions only rise until it has come to its end: sends what it is now, then each
 * version that is seen. Starts after the version that the client knows; where that is none of ours, it says
 * `resync` and starts from what is. A failure ends the stream: the client comes back and is told why.
 */
export async function* follow<T extends { readonly version: number }>(options: {
  readonly known: number | 'unknown' | undefined;
  readonly read: () => Promise<T | undefined>;
  readonly show: (value: T) => { readonly event: string; readonly data: unknown; readonly final: boolean };
  /** Begun before the first read, so that no hint falls between. */
  readonly watch: () => ReadModelWatch;
  readonly signal: AbortSignal;
  /** Asked with each heartbeat; false ends the stream. */
  readonly allowed: () => Promise<boolean>;
  readonly onFailure: (error: unknown) => void;
  readonly heartbeatMs?: number;
}): AsyncGenerator<string> {
  const { read, show, signal, allowed, onFailure, heartbeatMs = HEARTBEAT_MS } = options;
  // Made in here: a generator that is closed before it began runs no `finally`.
  const watch = options.watch();
  let sent = typeof options.known === 'number' ? options.known : 0;
  let resync = options.known === 'unknown';
  let spokeAt = performance.now();
  try {
    yield RETRY_TEXT;
    while (!signal.aborted) {
      const value = await read();
      if (!value) return;
      if (resync || value.version < sent) {
        yield RESYNC_TEXT;
        [resync, sent] = [false, 0];
      }
      if (value.version > sent) {
        const { event, data, final } = show(value);
        yield formatEvent({ id: value.version, event, data });
        if (final) return;
        sent = value.version;
        spokeAt = performance.now();
      }
      await watch.next(Math.max(0, spokeAt + heartbeatMs - performance.now()), signal);
      if (performance.now() - spokeAt >= heartbeatMs) {
        if (!(await allowed())) return;
        yield HEARTBEAT_TEXT;
        spokeAt = performance.now();
      }
    }
  } catch (error) {
    onFailure(error);
  } finally {
    watch.close();
  }
}
