import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ConnectionError } from 'fastify';
import { Problem, problemBody } from './problems.ts';
import type { App } from './types.ts';

// What Node would answer by itself, with a status and no word. Where there is a request it goes through the hooks like
// all others, and is counted and traced; else the answer is written to the socket.

/** RFC 9110, 10.1.1. Node answers an expectation that it does not know before anybody sees the request. */
export function refuseExpectations(app: App): void {
  const refused = new WeakSet<IncomingMessage>();
  app.server.on('checkExpectation', (request, response) => {
    refused.add(request);
    app.server.emit('request', request, response);
  });
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    done(
      refused.has(raw)
        ? new Problem(
            'expectation_failed',
            'Nothing but 100-continue can be expected here. Nothing was done.',
          )
        : undefined,
    );
  });
}

/** Unless told, Node closes the connection of who asks for a tunnel. */
export function answerConnect(app: App): void {
  app.server.on('connect', (_request, socket) => {
    // Who leaves meanwhile is nobody's concern.
    socket.on('error', () => {});
    const problem = new Problem('method_not_allowed', 'This is no proxy: it opens no tunnels.');
    answer(socket, '405 Method Not Allowed', problem, 'Allow: \r\n');
    // Half open it would stay for as long as its client likes.
    socket.end(() => socket.destroy());
  });
}

/** What is not even HTTP: there is no request, so no hook and no route will ever see it. */
export function answerClientErrors(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const [status, problem] = problemOf(error.code);
  if (socket.writable) answer(socket, status, problem);
  socket.destroy(error);
}

function answer(socket: Duplex, status: string, problem: Problem, header = ''): void {
  const body = JSON.stringify(problemBody(problem, `urn:uuid:${crypto.randomUUID()}`, undefined));
  socket.write(
    `HTTP/1.1 ${status}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n${header}Connection: close\r\n\r\n${body}`,
  );
}

function problemOf(code: string | undefined): [string, Problem] {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['408 Request Timeout', new Problem('request_timeout', 'The request did not arrive in time.')];
    case 'HPE_HEADER_OVERFLOW':
      return ['431 Request Header Fields Too Large', new Problem('headers_too_large', 'Send less of them.')];
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return [
        '413 Content Too Large',
        new Problem('body_too_large', 'The extensions of its chunks are too long.'),
      ];
    case 'HPE_INVALID_METHOD':
      return ['400 Bad Request', new Problem('invalid_request', 'There is no such method.')];
    case 'HPE_INVALID_CONTENT_LENGTH':
    case 'HPE_UNEXPECTED_CONTENT_LENGTH':
      return ['400 Bad Request', new Problem('invalid_request', 'Content-Length is not as it should be.')];
    default:
      return ['400 Bad Request', new Problem('invalid_request', 'This is not HTTP that could be read.')];
  }
}
