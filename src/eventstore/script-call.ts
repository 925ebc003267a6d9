import { Command } from 'ioredis';

/** A text may come in pieces, which become one argument. */
export type Argument = string | number | readonly string[];

/** What is between an argument's end and the next one, whose length is the index. */
const HEADS = Array.from({ length: 1_024 }, (_, length) => `\r\n$${length}\r\n`);

/**
 * A call of a loaded script that brings many arguments, from several hands. It makes its text in RESP at once; a
 * `Command` would flatten the arguments, make texts of numbers and go over all of them again, for half of what sending
 * a commit costs here.
 *
 * It is sent once, and keeps nothing of what it sent: a `Command` lives until the next full collection, as V8 puts
 * functions that are assigned to `this` in a constructor among what is old, and with it all that it refers to.
 */
export class ScriptCall extends Command {
  readonly #sha: string;
  #keys: readonly (readonly string[])[];
  #args: readonly (readonly Argument[])[];

  /**
   * @param keys of the script, in parts
   * @param args of the script, in parts; after them the reply comes as UTF-8
   */
  constructor(sha: string, keys: readonly (readonly string[])[], args: readonly (readonly Argument[])[]) {
    super('evalsha', [], { replyEncoding: 'utf8' });
    this.#sha = sha;
    this.#keys = keys;
    this.#args = args;
  }

  override toWritable(): string {
    if (this.#keys.length === 0) throw new Error('a script call is sent once');
    const keys = this.#keys.reduce((sum, { length }) => sum + length, 0);
    const args = this.#args.reduce((sum, { length }) => sum + length, 0);
    let text = `*${3 + keys + args}\r\n$7\r\nevalsha\r\n$${this.#sha.length}\r\n${this.#sha}`;
    text = added(text, keys);
    for (const part of this.#keys) for (const key of part) text = added(text, key);
    for (const part of this.#args) for (const arg of part) text = added(text, arg);
    this.#keys = [];
    this.#args = [];
    return `${text}\r\n`;
  }
}

function added(text: string, argument: Argument): string {
  if (typeof argument === 'object') return addedInPieces(text, argument);
  const its = typeof argument === 'string' ? argument : String(argument);
  const bytes = typeof argument === 'string' ? Buffer.byteLength(its) : its.length;
  // Two pieces and not one: a text that is made of pieces is made flat once, when it is written.
  return text + (HEADS[bytes] ?? `\r\n$${bytes}\r\n`) + its;
}

function addedInPieces(text: string, pieces: readonly string[]): string {
  let bytes = 0;
  for (const piece of pieces) bytes += Buffer.byteLength(piece);
  let longer = text + (HEADS[bytes] ?? `\r\n$${bytes}\r\n`);
  for (const piece of pieces) longer += piece;
  return longer;
}
