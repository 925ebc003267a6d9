import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { LimitPolicy } from '../access/limits.ts';
import type { Caller } from '../access/tokens.ts';
import type { Wanted } from '../projections/reading.ts';

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression<RawServerDefault>,
  RawReplyDefaultExpression<RawServerDefault>,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** The routes of one feature: given what they need, they add themselves to the server. */
export type Routes = (app: App) => void;

declare module 'fastify' {
  /** What a route asks of the server. Guards and the OpenAPI document are both made from it. */
  interface FastifyContextConfig {
    /**
     * Who may call. `account`: with an access token; `stream`: also with a ticket, where no header can be set;
     * `signed`: the URL itself is the credential, checked by the route. Default: anybody.
     */
    auth?: 'account' | 'stream' | 'signed';
    /** Checked before the body is read, in this order. */
    limits?: readonly { readonly policy: LimitPolicy; readonly by: 'address' | 'account' }[];
    /** It commits: `Idempotency-Key` and `Durability` are taken, `Position` and `ETag` answered. `batch`: many of them. */
    command?: true | 'batch';
    /**
     * It ends the caller's session: who asks again under an `Idempotency-Key` is let in with its token all the same, as
     * `sessionEnded`, and may be given an earlier answer, and nothing else.
     */
    answersAgain?: true;
    /** Not everybody may do all of it: 403. */
    forbids?: true;
    /** What it answers is made by a job: 409 until it is there. */
    comesLater?: true;
    /** Name of the projection it reads: `Consistent-With` is taken. */
    reads?: string;
    /** About the process itself. `live` is answered also while the server stops; `ready` then says no. */
    probe?: 'live' | 'ready';
  }
  interface FastifyRequest {
    /** Set on routes with `auth`; null elsewhere. */
    caller: Caller | null;
    /** The session of the caller's token has ended: only where the route says `answersAgain`. */
    sessionEnded: boolean;
    /** What the answer has to include. Set on routes with `reads`; null elsewhere. */
    wanted: Wanted | null;
  }
}

/**
 * A value as whoever may see it is shown it: what was sealed with its owner's key is opened, and what nobody can open any
 * more says so.
 */
export type Opened = <T>(owner: string | undefined, value: T) => Promise<T>;

/** A command whose dependencies were given to it: what is left is the context and the input. */
export type Bound<Command> = Command extends (deps: infer _Deps, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never;
