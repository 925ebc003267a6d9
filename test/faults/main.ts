import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { COUNTS } from './history.ts';
import { KINDS, type Kind } from './plan.ts';
import { prove } from './prove.ts';
import { percentile } from './recovery.ts';
import { type RoundResult, runRound } from './round.ts';

const HELP = `npm run test:faults -- [options]

Runs whole installations (2 APIs, 3 workers, 2 projectors, a Redis and a Postgres of their own) under load and under
faults, in rounds; after each round the faults stop, all settles, and a checker reads ledger, read models, log and what
handlers did. Exits with 1 if anything was counted that must be 0. Same seed: same load, same faults at the same times.

  --seed N          the first round's seed; the next has the next number (1)
  --minutes M       begins no round after so many minutes (1); there is always one
  --storm SECONDS   how long the faults of a round last (45)
  --rate N          jobs wanted a second (40)
  --faults A,B      only these kinds
  --fsync MODE      always or everysec; otherwise every fifth seed is everysec, and ends with a loss of power
  --prove           breaks a copy of the code in several ways instead, and shows that each is caught
  --only A,B        with --prove: only these
  --json            a line of JSON for each round, and nothing else
  --help            show this

Kinds of faults:
${Object.entries(KINDS)
  .map(([kind, meaning]) => `  ${kind.padEnd(18)}${meaning}`)
  .join('\n')}

What is counted:
${Object.entries(COUNTS)
  .map(([count, meaning]) => `  ${count.padEnd(18)}${meaning}`)
  .join('\n')}`;

const SHOWN = 12;

const OPTIONS = {
  seed: { type: 'string', default: '1' },
  minutes: { type: 'string', default: '1' },
  storm: { type: 'string', default: '45' },
  rate: { type: 'string', default: '40' },
  faults: { type: 'string' },
  fsync: { type: 'string' },
  prove: { type: 'boolean', default: false },
  only: { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  // 1 says that something was counted, so what was typed wrongly must not leave with it.
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!(error instanceof Error && code.startsWith('ERR_PARSE_ARGS'))) throw error;
  return wrong(error.message.split('\n', 1)[0] ?? '');
});

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  if (values.prove) return (await prove(values.only?.split(','), console.log)) ? 0 : 1;
  const { fsync } = values;
  if (fsync !== undefined && fsync !== 'always' && fsync !== 'everysec') return wrong(`--fsync ${fsync}`);
  const only = values.faults?.split(',').map((name) => name.trim());
  const unknown = only?.find((name) => !Object.hasOwn(KINDS, name));
  if (unknown !== undefined) return wrong(`--faults ${unknown}`);
  const { seed, minutes, storm, rate } = {
    seed: /^\d{1,9}$/.test(values.seed) ? Number(values.seed) : Number.NaN,
    minutes: Number(values.minutes),
    storm: Number(values.storm),
    rate: Number(values.rate),
  };
  if (Number.isNaN(seed)) return wrong(`--seed ${values.seed}`);
  if (!(minutes >= 0)) return wrong(`--minutes ${values.minutes}`);
  if (!(storm > 0)) return wrong(`--storm ${values.storm}`);
  if (!(rate > 0)) return wrong(`--rate ${values.rate}`);

  const say = values.json ? () => {} : (line: string) => console.log(line);
  const until = Date.now() + minutes * 60_000;
  const results: RoundResult[] = [];
  for (let round = 0; round === 0 || Date.now() < until; round++) {
    const logs = join(tmpdir(), `millrace-faults-seed-${seed + round}`);
    const result = await runRound({
      seed: seed + round,
      stormMs: storm * 1000,
      rate,
      only: only as readonly Kind[] | undefined,
      fsync,
      say,
      keepLogsOf(name, log) {
        mkdirSync(logs, { recursive: true });
        writeFileSync(join(logs, `${name}.log`), log);
      },
    });
    results.push(result);
    if (values.json) console.log(JSON.stringify(summary(result)));
    else report(result, logs);
  }
  if (!values.json && results.length > 1) total(results);
  return results.some(({ violations }) => violations.length > 0) ? 1 : 0;
}

function wrong(what: string): number {
  console.error(`This can't be used: ${what}. See --help.`);
  return 2;
}

function summary({ violations, recoveries, ...rest }: RoundResult) {
  return {
    ...rest,
    recovery: times(recoveries),
    violations: violations.slice(0, SHOWN).map(({ what }) => what),
  };
}

function times(recoveries: RoundResult['recoveries']) {
  const all = recoveries.map(({ ms }) => ms);
  return { p50: percentile(all, 0.5), p99: percentile(all, 0.99), max: percentile(all, 1) };
}

function report(result: RoundResult, logs: string): void {
  const { jobs, runs, events, faults, recoveries, counts, violations, outcomes, ownEnds, powerLoss } = result;
  const { p50, p99, max } = times(recoveries);
  console.log(
    `  ${jobs} jobs, ${runs} runs of handlers, ${events} events; ${faults} faults; clients: ${Object.entries(
      outcomes,
    )
      .map(([outcome, times]) => `${times} ${outcome}`)
      .join(', ')}; ${ownEnds} processes ended by themselves`,
  );
  if (powerLoss)
    console.log(
      `  power loss: ${powerLoss.bytes} bytes, ${powerLoss.fenced ? `seen and fenced, recovered in ${powerLoss.recoveredMs} ms` : 'nothing was missed'}`,
    );
  console.log(`  recovery: p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`);
  console.log(
    `  ${Object.entries(counts)
      .map(([count, times]) => `${count} ${times}`)
      .join(', ')}`,
  );
  for (const { count, what } of violations.slice(0, SHOWN)) console.log(`  ${count}: ${what}`);
  if (violations.length > 0) console.log(`  again: --seed ${result.seed}; logs of the processes: ${logs}`);
}

function total(results: readonly RoundResult[]): void {
  const sum = (of: (result: RoundResult) => number) => results.reduce((all, result) => all + of(result), 0);
  const recoveries = results.flatMap((result) => result.recoveries);
  console.log(
    `\n${results.length} rounds: ${sum(({ jobs }) => jobs)} jobs, ${sum(({ runs }) => runs)} runs, ${sum(({ faults }) => faults)} faults, ${sum(({ violations }) => violations.length)} violations`,
  );
  for (const [kind, its] of [['all', recoveries] as const, ...Map.groupBy(recoveries, ({ kind }) => kind)]) {
    const { p50, p99, max } = times(its);
    console.log(`  recovery ${kind.padEnd(18)} p50 ${p50} ms, p99 ${p99} ms, max ${max} ms (${its.length})`);
  }
}
