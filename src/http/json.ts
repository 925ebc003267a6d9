import { isUtf8 } from 'node:buffer';
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { inexactNumber } from './exact-numbers.ts';
import { escapePointer } from './failures.ts';
import { Problem } from './problems.ts';
import type { App } from './types.ts';

/** What may hide something that is refused; everything else is not looked through. */
const SUSPECT = /\\u(?:0000|d[89a-f])|\\u00[5-7]|__proto__|prototype/i;
const MAX_DEPTH = 100;

/**
 * Reads JSON bodies. Refuses (400, with a pointer) what later steps can't store or must never merge: U+0000 and
 * lone surrogates, which Postgres takes in no text, names that reach into an object's prototype, and numbers that
 * JavaScript would take for others.
 */
export function readJsonBodies(app: App): void {
  app.removeAllContentTypeParsers();
  app.addHook('preParsing', (request, _reply, _payload, done) => done(unreadable(request.headers)));
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    try {
      done(null, body.length === 0 && mayBeMissing(request) ? undefined : parseBody(body));
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

const UTF8 = /^(?:utf-?8|us-ascii)$/i;

/** Bytes that are not JSON in UTF-8 as they come. Said so, as their client may well hold valid JSON. */
function unreadable(headers: IncomingHttpHeaders): Problem | undefined {
  const { 'content-encoding': encoding = 'identity', 'content-type': type = '' } = headers;
  if (encoding.toLowerCase() !== 'identity') {
    return new Problem('unsupported_media_type', 'Send the body without Content-Encoding.', {
      headers: { 'accept-encoding': 'identity' },
    });
  }
  const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s";]*)/i.exec(type) ?? [];
  return UTF8.test(charset)
    ? undefined
    : new Problem('unsupported_media_type', 'Send the body as application/json, in UTF-8.');
}

/** Some clients announce JSON with every request, and then send none. */
function mayBeMissing({ routeOptions }: FastifyRequest): boolean {
  const body: unknown = routeOptions.schema?.body;
  if (typeof body !== 'object' || body === null) return true;
  const either: unknown = 'anyOf' in body ? body.anyOf : undefined;
  return Array.isArray(either) && either.some(({ type }: { type?: unknown }) => type === 'null');
}

function parseBody(body: Buffer | string): unknown {
  if (typeof body !== 'string' && !isUtf8(body)) {
    throw new Problem('malformed_json', 'The body is not UTF-8.');
  }
  const text = body.toString();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // V8's own message quotes the body, in which there may be a password.
    const [where] = /at position \d+/.exec(String(error)) ?? [];
    throw new Problem('malformed_json', `The body is not valid JSON${where ? ` (${where})` : ''}.`);
  }
  if (SUSPECT.test(text)) refuseForbidden(value);
  if (isTooDeep(value)) throw new Problem('malformed_json', `The body is nested deeper than ${MAX_DEPTH}.`);
  const inexact = inexactNumber(text);
  if (inexact)
    throw refused(inexact.pointer, 'is a number that would be kept as another one: send it as text');
  return value;
}

/** Writing it down again, as hashes and events need it, would be deeper than the stack. */
function isTooDeep(root: unknown): boolean {
  let level: object[] = [root].filter(isObject);
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return true;
    level = level.flatMap((value) => Object.values(value).filter(isObject));
  }
  return false;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Looks through all names and strings. Iterative: a body may be nested deeper than the stack. */
function refuseForbidden(root: unknown): void {
  const open: { value: unknown; pointer: string }[] = [{ value: root, pointer: '' }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { value, pointer } = next;
    if (typeof value === 'string') {
      const fault = faultOf(value);
      if (fault) throw refused(pointer, fault);
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, child] of Object.entries(value)) {
        const at = `${pointer}/${escapePointer(name.toWellFormed().replaceAll('\0', '\uFFFD')).slice(0, 100)}`;
        const fault = reachesPrototype(name, child) ? 'is not a name that is taken' : faultOf(name);
        if (fault) throw refused(at, fault);
        open.push({ value: child, pointer: at });
      }
    }
  }
}

/** `constructor` alone is a word like others: makers of racing cars are called that. */
function reachesPrototype(name: string, child: unknown): boolean {
  return (
    name === '__proto__' || (name === 'constructor' && isObject(child) && Object.hasOwn(child, 'prototype'))
  );
}

function refused(pointer: string, detail: string): Problem {
  return new Problem('invalid_request', 'The body holds what can not be taken; see errors.', {
    errors: [{ pointer, detail }],
  });
}

function faultOf(text: string): string | undefined {
  if (text.includes('\0')) return 'holds U+0000';
  if (!text.isWellFormed()) return 'holds half of a surrogate pair';
  return undefined;
}

/** Query and path, once decoded. `parameters` is an object of strings or of arrays of strings. */
export function refuseForbiddenParameters(parameters: unknown): void {
  if (typeof parameters !== 'object' || parameters === null) return;
  for (const [parameter, value] of Object.entries(parameters)) {
    for (const text of [parameter, ...(Array.isArray(value) ? value : [value])]) {
      const detail = typeof text === 'string' ? faultOf(text) : undefined;
      if (!detail) continue;
      throw new Problem('invalid_request', 'The URL holds what can not be taken; see errors.', {
        errors: [{ parameter: parameter.toWellFormed().replaceAll('\0', '\uFFFD'), detail }],
      });
    }
  }
}

/** The same text for the same JSON, whatever the order of its names. */
export function canonicalJson(value: unknown): string {
  return (
    JSON.stringify(value, (_name, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
        : part,
    ) ?? ''
  );
}
