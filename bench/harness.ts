import { cpus, totalmem } from 'node:os';

/** One way to do the same work. */
export type Contestant = {
  readonly name: string;
  /** Does one unit of work. `worker` and `turn` number it within a run. */
  readonly once: (worker: number, turn: number) => Promise<unknown>;
};

export type Run = {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

/** Prints one JSON line. */
export function report(line: Record<string, unknown>): void {
  console.log(JSON.stringify(line));
}

/** What the figures were measured on. */
export function reportMachine(extra: Record<string, unknown>): void {
  const [cpu] = cpus();
  report({
    machine: { cores: cpus().length, cpu: cpu?.model, memoryGb: Math.round(totalmem() / 2 ** 30) },
    node: process.version,
    ...extra,
  });
}

/**
 * Runs a contestant with `concurrency` loops for `seconds`. Units that are under way when the time is up are
 * finished and counted, and so is their time.
 */
export async function measure(
  contestant: Contestant,
  { concurrency, seconds }: { readonly concurrency: number; readonly seconds: number },
): Promise<Run> {
  const latencies: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1_000;
  await Promise.all(
    Array.from({ length: concurrency }, async (_, worker) => {
      for (let turn = 0; performance.now() < end; turn++) {
        const began = performance.now();
        await contestant.once(worker, turn);
        latencies.push(performance.now() - began);
      }
    }),
  );
  const elapsed = (performance.now() - start) / 1_000;
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? 0;
  return { perSecond: latencies.length / elapsed, p50Ms: at(0.5), p99Ms: at(0.99) };
}

/**
 * Measures all contestants in every round, in an order that turns from round to round, and compares within a round
 * only: what else the machine does then touches all alike.
 * @returns for each contestant the median of its runs, and of its ratio to the baseline
 */
export async function compare(
  bench: string,
  baseline: Contestant,
  others: readonly Contestant[],
  options: { readonly rounds: number; readonly concurrency: number; readonly seconds: number },
): Promise<Map<string, { readonly perSecond: number; readonly ratio: number }>> {
  const contestants = [baseline, ...others];
  const runs = new Map<string, Run[]>(contestants.map(({ name }) => [name, []]));
  for (const contestant of contestants)
    await measure(contestant, { ...options, seconds: options.seconds / 2 });
  for (let round = 0; round < options.rounds; round++) {
    const turned = contestants.map((_, index) => contestants[(index + round) % contestants.length]);
    for (const contestant of turned) {
      if (!contestant) continue;
      const run = await measure(contestant, options);
      runs.get(contestant.name)?.push(run);
      report({ bench, round, contestant: contestant.name, ...rounded(run) });
    }
  }
  const base = runs.get(baseline.name) ?? [];
  return new Map(
    [...runs].map(([name, own]) => [
      name,
      {
        perSecond: median(own.map(({ perSecond }) => perSecond)),
        ratio: median(own.map(({ perSecond }, round) => perSecond / (base[round]?.perSecond ?? Number.NaN))),
      },
    ]),
  );
}

/** The bench's last line: `ratio <number> <what against what>`. */
export function finish(ratio: number, what: string): void {
  console.log(`ratio ${ratio.toFixed(3)} ${what}`);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function rounded(run: Run): Record<string, number> {
  return {
    perSecond: Math.round(run.perSecond),
    p50Ms: Number(run.p50Ms.toFixed(3)),
    p99Ms: Number(run.p99Ms.toFixed(3)),
  };
}
