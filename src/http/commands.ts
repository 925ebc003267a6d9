import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Hmac } from '../access/signing.ts';
import type { CommandContext, CommandResult, Durability } from '../commands/handle.ts';
import { canonicalJson } from './json.ts';
import { invalid, Problem } from './problems.ts';

const DURABILITIES: readonly Durability[] = ['memory', 'replicated', 'ledger'];

/**
 * Makes what a command needs to know of its request. Throws a `Problem` where a header is malformed.
 *
 * @param item of a request that asks for many things: each is covered by the key and its index
 */
export type ContextOf = (
  request: FastifyRequest,
  item?: { readonly index: number; readonly body: unknown },
) => CommandContext;

/** @param defaults.durability of the installation, for requests that name none */
export function commandContexts(defaults: {
  readonly hmac: Hmac;
  readonly durability: Durability;
}): ContextOf {
  return (request, item) => {
    const { caller } = request;
    const key = idempotencyKeyOf(request.headers['idempotency-key']);
    return {
      actor: caller?.accountId ?? 'anonymous',
      ...(caller ? { owner: caller.accountId } : {}),
      correlation: request.id,
      durability: durabilityOf(request.headers.durability) ?? defaults.durability,
      ...(key === undefined ? {} : { idempotency: idempotencyOf(defaults.hmac, request, key, item) }),
    };
  };
}

function durabilityOf(header: string | string[] | undefined): Durability | undefined {
  if (header === undefined) return undefined;
  const durability = DURABILITIES.find((name) => name === header);
  if (!durability) throw invalid('Durability', `is one of ${DURABILITIES.join(', ')}`);
  return durability;
}

/**
 * A String of Structured Fields (`"8e03…"`, RFC 9651, as the IETF draft has it) or the same without quotes,
 * 1 to 255 characters.
 */
export function idempotencyKeyOf(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const text = Array.isArray(header) ? header.join(', ') : header;
  const [, quoted] = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/.exec(text) ?? [];
  const key = quoted === undefined ? bareKey(text) : quoted.replaceAll(/\\(["\\])/g, '$1');
  if (key === undefined || key.length < 1 || key.length > 255) {
    throw invalid('Idempotency-Key', 'is a quoted string or a token of 1 to 255 characters');
  }
  return key;
}

function bareKey(text: string): string | undefined {
  return /^[A-Za-z0-9!#$%&'*+.^_`|~:/=-]+$/.test(text) ? text : undefined;
}

/**
 * The claim's key belongs to the caller and to the route as it was called, with its ids: claims are kept with their
 * targets, so whether two targets knew of one another's would depend on their partitions. The fingerprint says which
 * request it was. Both are keyed hashes: they are stored with the events, and a plain hash of a log-in could be searched for its password.
 * So could a keyed one by whoever has `HMAC_KEY`, faster than bcrypt, and also after an erasure: the fingerprint follows from the
 * client's key, too, which stands nowhere, and is as a rule random.
 */
function idempotencyOf(
  hmac: Hmac,
  request: FastifyRequest,
  key: string,
  item?: { readonly index: number; readonly body: unknown },
) {
  const caller = request.caller?.accountId ?? 'anonymous';
  const [path = ''] = request.url.split('?', 1);
  const parts = [request.method, path, canonicalJson(request.query)];
  const body = canonicalJson(item ? item.body : request.body);
  // A key has no line breaks, so nobody's key can end as an index does.
  const covered = item ? `${key}\n${item.index}` : key;
  return {
    key: hmac('idempotency key', `${caller}\n${request.method} ${path}\n${covered}`).toString('hex'),
    fingerprint: hmac('fingerprint', [covered, ...parts, body].join('\n')).toString('hex'),
  };
}

export type CommandAnswer = {
  readonly status: 200 | 201 | 202;
  /** Absolute path that can be fetched. */
  readonly location: string;
  /** The answer holds secrets, which are kept nowhere: a repeated request can't be given them again. */
  readonly secret?: true;
};

/** The command was carried out, now or by an earlier request with the same key. Throws a `Problem` otherwise. */
export function doneOf<R extends CommandResult<unknown>>(result: R): Extract<R, { kind: 'done' }> {
  if (result.kind === 'refused') throw new Problem(result.refusal.code, result.refusal.detail);
  if (result.kind === 'key_reused') {
    throw new Problem('idempotency_key_reused', 'This Idempotency-Key was used for another request.');
  }
  return result as Extract<R, { kind: 'done' }>;
}

/** Writes status and headers of a command's answer. The body is the route's. */
export function commandAnswer(
  reply: FastifyReply,
  done: {
    readonly body: { readonly version: number };
    readonly position: string;
    readonly replayed: boolean;
    readonly durability: Durability;
  },
  answer: CommandAnswer,
): FastifyReply {
  if (answer.secret && done.replayed) {
    throw new Problem('already_done', 'This was done by an earlier request with the same Idempotency-Key.', {
      headers: { position: done.position },
    });
  }
  reply
    .code(answer.status)
    .header('location', answer.location)
    .header('etag', `"${done.body.version}"`)
    .header('position', done.position)
    .header('durability', done.durability)
    .header('cache-control', 'no-store');
  if (done.replayed) reply.header('idempotency-replayed', 'true');
  return reply;
}
