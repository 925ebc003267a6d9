import type { Context } from '@opentelemetry/api';

/**
 * A context that holds a value or two. OpenTelemetry's own copies a Map for each, and makes three functions, which V8 puts
 * among what is old, with all that they refer to: every job's context and ids would live until the next full collection.
 */
export class LightContext implements Context {
  readonly #above: LightContext | undefined;
  readonly #key: symbol | undefined;
  readonly #value: unknown;

  constructor(above?: LightContext, key?: symbol, value?: unknown) {
    this.#above = above;
    this.#key = key;
    this.#value = value;
  }

  getValue(key: symbol): unknown {
    return key === this.#key ? this.#value : this.#above?.getValue(key);
  }

  setValue(key: symbol, value: unknown): Context {
    return new LightContext(this, key, value);
  }

  deleteValue(key: symbol): Context {
    return new LightContext(this, key);
  }
}
