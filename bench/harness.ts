import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';

/** What an option takes, what it is where nobody gives it, and what it is for. */
type Option =
  /** From `least` (default: 1 of a count, above 0 of a number) to `most`. */
  | {
      readonly takes: 'count' | 'number';
      readonly default: number;
      readonly help: string;
      readonly least?: number;
      readonly most?: number;
    }
  | { readonly takes: 'flag' | 'text'; readonly help: string }
  | { readonly takes: 'name'; readonly of: readonly string[]; readonly help: string }
  /** Several, divided by commas; with `parts`, whatever is in a name stands for it. */
  | {
      readonly takes: 'names';
      readonly of: readonly string[];
      readonly parts?: true;
      readonly help: string;
    };
type Options = Readonly<Record<string, Option>>;
type ValueOf<Takes> = Takes extends 'count' | 'number'
  ? number
  : Takes extends 'flag'
    ? boolean
    : Takes extends 'names'
      ? readonly string[] | undefined
      : string | undefined;
type Values<O extends Options> = { readonly [Name in keyof O]: ValueOf<O[Name]['takes']> };

/**
 * The options of the command line. Ends the process with 0 after `--help`, with 2 where they make no sense, and, as
 * `npm run bench` asks for before it starts servers, with 0 where `BENCH_CHECK` is set: so it is what a bench does first.
 * @param measures what the bench does, in a sentence or two
 */
export function readOptions<const O extends Options>(name: string, measures: string, options: O): Values<O> {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    console.log(helpOf(name, measures, options));
    process.exit(0);
  }
  try {
    const { values } = parseArgs({
      args,
      options: Object.fromEntries(
        Object.entries(options).map(([each, { takes }]) => [
          each,
          { type: takes === 'flag' ? 'boolean' : 'string' },
        ]),
      ),
    });
    const read = Object.fromEntries(
      Object.entries(options).map(([each, option]) => [each, readOption(each, option, values[each])]),
    );
    if (process.env.BENCH_CHECK) process.exit(0);
    return read as Values<O>;
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${helpOf(name, measures, options)}`);
    process.exit(2);
  }
}

/** Throws an error that says what is wrong. */
function readOption(name: string, option: Option, given: unknown): unknown {
  if (option.takes === 'flag') return given === true;
  if (typeof given !== 'string') return 'default' in option ? option.default : undefined;
  switch (option.takes) {
    case 'text':
      return given;
    case 'name':
      if (option.of.includes(given)) return given;
      break;
    case 'names': {
      const parts = given.split(',').map((part) => part.trim());
      const isMeant = (part: string) => (known: string) =>
        known === part || (option.parts && known.includes(part));
      if (parts.every((part) => part !== '' && option.of.some(isMeant(part)))) return parts;
      break;
    }
    case 'count':
    case 'number': {
      const value = given.trim() === '' ? Number.NaN : Number(given);
      const { least = option.takes === 'count' ? 1 : Number.MIN_VALUE, most = 1e9 } = option;
      const isKind = option.takes === 'count' ? Number.isInteger(value) : Number.isFinite(value);
      if (isKind && value >= least && value <= most) return value;
    }
  }
  throw new Error(`--${name} is ${JSON.stringify(given)}, and takes ${takenBy(option)}.`);
}

function takenBy(option: Option): string {
  switch (option.takes) {
    case 'count':
    case 'number': {
      const kind = option.takes === 'count' ? 'a whole number' : 'a number';
      const least = option.least ?? (option.takes === 'count' ? 1 : undefined);
      const from = least === undefined ? 'above 0' : `from ${least}`;
      return `${kind} ${from}${option.most === undefined ? '' : ` to ${option.most}`}`;
    }
    case 'name':
      return `one of: ${option.of.join('; ')}`;
    case 'names':
      return `any of these${option.parts ? ' or parts of them' : ''}, divided by commas: ${option.of.join('; ')}`;
    default:
      return 'a text';
  }
}

function helpOf(name: string, measures: string, options: Options): string {
  const lines = Object.entries(options).map(([each, option]) => {
    if (option.takes === 'flag') return `  --${each}\n      ${option.help}`;
    const without = 'default' in option ? `; default ${option.default}` : '';
    return `  --${each} <${option.takes}>\n      ${option.help}; ${takenBy(option)}${without}`;
  });
  return `npm run bench -- ${name} [options]\n\n${measures}\n\n${lines.join('\n')}\n\nbench/README.md says more, and what was measured.`;
}

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
