import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Calls } from './child.ts';
import { profiling } from './profiling.ts';

type Input<C extends keyof Calls> = Parameters<Calls[C]> extends [infer I] ? I : Record<string, never>;

type Output<C extends keyof Calls> = Awaited<ReturnType<Calls[C]>>;

/** One side of a contestant, in a process of its own. */
export type Side = {
  call<C extends keyof Calls>(call: C, input: Input<C>): Promise<Output<C>>;
  stop(): Promise<void>;
};

export async function startSide(name: string, place: string): Promise<Side> {
  const child = fork(join(import.meta.dirname, 'child.ts'), [name, place], { execArgv: profiling(place) });
  const waiting = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
  let calls = 0;
  const ready = Promise.withResolvers<unknown>();
  waiting.set(0, ready);
  child.on('message', ({ id, result, error }: { id: number; result?: unknown; error?: string }) => {
    if (error === undefined) waiting.get(id)?.resolve(result);
    else waiting.get(id)?.reject(new Error(error));
    waiting.delete(id);
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`${name} ended with ${code}`));
  });
  await ready.promise;
  return {
    call<C extends keyof Calls>(call: C, input: Input<C>) {
      return new Promise<Output<C>>((resolve, reject) => {
        // The other end is this very type.
        waiting.set(++calls, { resolve: (result) => resolve(result as Output<C>), reject });
        child.send({ id: calls, call, input });
      });
    },
    stop: () => stop(child),
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.disconnect();
  await once(child, 'exit');
}
