import { Writable } from 'node:stream';
import { createSessionCheck } from '../../src/access/sessions.ts';
import { createHmacs } from '../../src/access/signing.ts';
import { generateTokenKey, readTokenKeys, type TokenSettings } from '../../src/access/tokens.ts';
import { type AccountId, type SessionId, streamId } from '../../src/domain/ids.ts';
import type { Session } from '../../src/domain/sessions.ts';
import { createStreams } from '../../src/http/draining.ts';
import { storeOutageOf } from '../../src/http/failures.ts';
import { createServer, type ServerDeps } from '../../src/http/server.ts';
import type { Routes } from '../../src/http/types.ts';
import { createLogger } from '../../src/telemetry/logging.ts';

/**
 * A server for the mechanics of HTTP alone: parsing, the order of checks, headers. What it is given instead of
 * commands decides nothing; everything that keeps state is tested on the real thing in `test/e2e`.
 */
export function edge(options: { routes?: readonly Routes[] } & Partial<Omit<ServerDeps, 'routes'>> = {}) {
  const lines: string[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const logger = createLogger({ level: 'info', role: 'api', instanceId: 'test', destination });
  const sessions = new Map<string, Session>();
  const app = createServer({
    logger,
    tokens,
    hmac,
    checkSession: createSessionCheck(
      {
        session: async (id) => sessions.get(id) ?? { phase: 'none' },
        account: async () => ({ phase: 'active', role: 'user' }),
      },
      storeOutageOf,
    ),
    takeLimit: async () => 'unknown',
    streams: createStreams(),
    ...options,
    routes: options.routes ?? [],
  });
  return {
    app,
    lines,
    sessions,
    /** An account that has logged in. */
    async login(role: 'user' | 'operator' = 'user') {
      await app.ready();
      const unique = Math.random().toString(36).slice(2).padEnd(20, '0');
      const accountId: AccountId = streamId('acc', 1, unique);
      const sessionId: SessionId = streamId('ses', 1, unique);
      sessions.set(sessionId, active(accountId));
      const token = app.jwt.sign({ sub: accountId, sid: sessionId, role });
      return { accountId, sessionId, token, authorization: `Bearer ${token}` };
    },
  };
}

export function active(accountId: string): Session {
  return { phase: 'active', accountId, refreshHash: '0'.repeat(64), expiresAt: '2999-01-01T00:00:00.000Z' };
}

export const hmac = createHmacs(Buffer.alloc(32, 7));
export const tokens: TokenSettings = {
  keys: readTokenKeys([
    { kid: 'new', der: generateTokenKey() },
    { kid: 'old', der: generateTokenKey() },
  ]),
  issuer: 'https://millrace.test',
  audience: 'https://millrace.test',
};
