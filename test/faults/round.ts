import { setTimeout as sleep } from 'node:timers/promises';
import { check } from './check.ts';
import { type Eyes, openEyes } from './gather.ts';
import { COUNTS, type Count, type History, type Violation } from './history.ts';
import { type Inflicted, storm } from './inflict.ts';
import { type Installation, LEASE_MS, startInstallation } from './installation.ts';
import { type Load, startLoad } from './load.ts';
import { describeFault, type Kind, PROCESSES, planFaults } from './plan.ts';
import { randomOf } from './random.ts';
import { type Recovery, recoveryTimes } from './recovery.ts';
import { type Fsync, type Servers, startServers } from './servers.ts';

export type RoundOptions = {
  readonly seed: number;
  readonly stormMs: number;
  /** Wishes a second. */
  readonly rate: number;
  readonly only?: readonly Kind[] | undefined;
  /** Default: as the seed has it, everysec in one of five. */
  readonly fsync?: Fsync | undefined;
  readonly say: (line: string) => void;
  /** Keeps the processes' logs in this folder if anything is counted. */
  readonly keepLogsOf?: (name: string, log: string) => void;
};

export type RoundResult = {
  readonly seed: number;
  readonly fsync: Fsync;
  readonly jobs: number;
  readonly events: number;
  /** Calls of handlers. */
  readonly runs: number;
  readonly faults: number;
  readonly faultsByKind: Readonly<Record<string, number>>;
  readonly recoveries: readonly Recovery[];
  readonly settledMs: number;
  /** Processes that ended by themselves and were started again: their leases were gone, or a server was away. */
  readonly ownEnds: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** What clients were answered, by status and code; 0: nothing. */
  readonly answers: Readonly<Record<string, number>>;
  /** The end of an everysec round: what Redis lost, and whether that was seen. */
  readonly powerLoss?: {
    readonly bytes: number;
    readonly fenced: boolean;
    /** How long from `millrace recover` to a command that was accepted. */
    readonly recoveredMs?: number;
  };
  readonly counts: Readonly<Record<Count, number>>;
  readonly violations: readonly Violation[];
};

/** What an everysec server may lose: what it wrote in the last second or two, or less. */
const LOST_MS = 1_500;
const LITTLE_BYTES = { least: 200, most: 8_000 } as const;
const FENCED_FOR_MS = 3_000;
const FENCED_WITHIN_MS = 40_000;
const AFTER_RECOVERY_MS = 6_000;
const SETTLED_WITHIN_MS = 300_000;
const NO_PROGRESS_MS = 60_000;
const SAY_EVERY_MS = 20_000;

/** One installation, one storm, one check. Everything that it starts is gone afterwards. */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  const { seed, say } = options;
  const fsync = options.fsync ?? (seed % 5 === 0 ? 'everysec' : 'always');
  const plan = planFaults(seed, options.stormMs, LEASE_MS, options.only).filter(
    // What such a server loses when it is killed is looked at once, at the end.
    ({ kind }) => fsync === 'always' || kind !== 'redis-kill',
  );
  say(`seed ${seed}: appendfsync ${fsync}, ${plan.length} faults in ${options.stormMs / 1000} s`);
  const servers = await startServers(fsync);
  const eyes = openEyes(servers);
  let installation: Installation | undefined;
  try {
    installation = await startInstallation(servers);
    const urls = PROCESSES.api.map((name) => installation?.process(name).url ?? '');
    const load = await startLoad({ seed, urls, rate: options.rate });
    const faults = await storm(plan, { installation, servers }, (fault) => say(`  ${describeFault(fault)}`));
    const result = { options, fsync, faults, servers, installation, load, eyes };
    if (fsync === 'everysec') return await loseTheTail(result);
    await load.stop();
    return await settleAndCheck(result);
  } finally {
    await eyes.close();
    await installation?.close();
    await servers.close();
  }
}

type Running = {
  readonly options: RoundOptions;
  readonly fsync: Fsync;
  readonly faults: readonly Inflicted[];
  readonly servers: Servers;
  readonly installation: Installation;
  readonly load: Load;
  readonly eyes: Eyes;
};

async function settleAndCheck(
  running: Running,
  powerLoss?: RoundResult['powerLoss'],
  recovery?: { readonly violations: readonly Violation[]; readonly at: number },
): Promise<RoundResult> {
  const { installation, load, eyes, options } = running;
  installation.heal();
  const settledMs = await settle(running);
  const all: History = {
    ...(await eyes.gather()),
    promises: load.promises,
    asked: load.asked,
    oddities: [...load.oddities].map(([what, times]) => `${times} × ${what}`),
    crashes: crashesOf(installation),
  };
  const history = recovery ? withoutLost(all, recovery.at) : all;
  const violations = [...(recovery?.violations ?? []), ...check(history)];
  if (violations.length > 0) keepLogs(running);
  options.say(`  settled after ${(settledMs / 1000).toFixed(1)} s: ${violations.length} violations`);
  return resultOf(running, { history, violations, settledMs, powerLoss });
}

/** Until every job has ended and every reader is at the head; dead letters are retried by hand meanwhile. */
async function settle({ eyes, load, options }: Running): Promise<number> {
  const begun = Date.now();
  const retried = new Set<string>();
  let progress = -1;
  let movedAt = begun;
  let saidAt = begun;
  for (;;) {
    const dead = (await eyes.deadLetters()).filter(
      ({ jobId, version }) => !retried.has(`${jobId} ${version}`),
    );
    for (const { jobId, version } of dead) retried.add(`${jobId} ${version}`);
    await Promise.all(dead.map(({ jobId, version }) => load.retry(jobId, version)));
    const left = await eyes.unsettled();
    const now = Date.now();
    if (left.length === 0 && (await eyes.deadLetters()).length === 0) return now - begun;
    const seen = await eyes.progress();
    if (seen !== progress) movedAt = now;
    progress = seen;
    if (now - saidAt > SAY_EVERY_MS) {
      saidAt = now;
      options.say(`  not settled yet: ${left.length} things, such as ${left.slice(0, 3).join('; ')}`);
    }
    if (now - begun > SETTLED_WITHIN_MS || now - movedAt > NO_PROGRESS_MS) {
      options.say(`  stuck: ${left.length} things, such as ${left.slice(0, 5).join('; ')}`);
      return now - begun;
    }
    await sleep(250);
  }
}

/**
 * Redis' machine loses its power: what was written in the last second or so is gone. What was acknowledged with
 * `ledger` must be in Postgres; and either nothing else was lost, or commits are fenced.
 */
async function loseTheTail(running: Running): Promise<RoundResult> {
  const { servers, installation, load, eyes, options } = running;
  installation.heal();
  await installation.ready();
  await sleep(2_000);
  const before = await servers.redis.written();
  await sleep(LOST_MS);
  await servers.redis.kill();
  const written = (await servers.redis.written()) - before;
  const random = randomOf(options.seed, 'power loss');
  const little = random.between(LITTLE_BYTES.least, LITTLE_BYTES.most);
  const bytes = random.chance(0.5) ? written : Math.min(written, little);
  await servers.redis.loseTail(bytes);
  options.say(`  Redis lost the last ${bytes} bytes of its append-only file`);
  await servers.redis.start();
  const fenced = await isFenced(load);
  if (!fenced) {
    await load.stop();
    return settleAndCheck(running, { bytes, fenced });
  }
  const known = await eyes.jobIds();
  const violations: Violation[] = load.promises
    .filter(({ durability }) => durability === 'ledger')
    .flatMap(({ n, jobIds }) => jobIds.map((jobId) => ({ n, jobId })))
    .filter(({ jobId }) => !known.has(jobId))
    .map(({ n, jobId }) => ({ count: 'missing', what: `wish ${n}, ${jobId}, acknowledged with ledger` }));
  options.say(`  commits are fenced, with ${violations.length} violations: Redis is made anew`);
  const asked = Date.now();
  const { code, output } = await installation.cli(['recover', '--reason', 'a power loss', '--yes', '--json']);
  if (code !== 0)
    violations.push({ count: 'unfinished', what: `millrace recover left with ${code}: ${output}` });
  while (load.last.acknowledged < asked && Date.now() - asked < FENCED_WITHIN_MS) await sleep(50);
  const recoveredMs = load.last.acknowledged - asked;
  await sleep(AFTER_RECOVERY_MS);
  await load.stop();
  return settleAndCheck(running, { bytes, fenced, recoveredMs }, { violations, at: asked });
}

/**
 * What was acknowledged before, and with less than `ledger`, may be lost by a recovery: no count is made of that. Of all that is
 * still there everything must hold.
 */
function withoutLost(history: History, at: number): History {
  const known = new Set(history.events.map(({ streamId }) => String(streamId)));
  return {
    ...history,
    promises: history.promises.map((each) =>
      each.at < at && each.durability !== 'ledger' && !each.jobIds.some((id) => known.has(id))
        ? { ...each, outcome: 'unknown', jobIds: [] }
        : each,
    ),
    asked: history.asked.map((each) => (each.at < at ? { ...each, outcome: 'unknown' } : each)),
  };
}

/** A command may be acknowledged late, by the ledger that has it: what counts is which answer goes on. */
async function isFenced({ last }: Load): Promise<boolean> {
  const from = Date.now() + FENCED_FOR_MS;
  const deadline = Date.now() + FENCED_WITHIN_MS;
  while (Date.now() < deadline) {
    await sleep(200);
    if (last.fenced > Math.max(from, last.acknowledged + FENCED_FOR_MS)) return true;
    if (last.acknowledged > Math.max(from, last.fenced + FENCED_FOR_MS)) return false;
  }
  return false;
}

function resultOf(
  { options, fsync, faults, installation, load }: Running,
  found: {
    readonly history: Pick<History, 'events' | 'effects'>;
    readonly violations: readonly Violation[];
    readonly settledMs: number;
    readonly powerLoss: RoundResult['powerLoss'];
  },
): RoundResult {
  const { history, violations, settledMs, powerLoss } = found;
  const tally = (of: readonly string[]) =>
    Object.fromEntries([...Map.groupBy(of, (each) => each)].map(([each, all]) => [each, all.length]));
  const names = Object.keys(COUNTS) as readonly Count[];
  const counts = names.map(
    (name) => [name, violations.filter(({ count }) => count === name).length] as const,
  );
  return {
    seed: options.seed,
    fsync,
    jobs: history.events.filter(({ type }) => type === 'JobEnqueued').length,
    events: history.events.length,
    runs: history.effects.filter(({ what }) => what === 'begin').length,
    faults: faults.length,
    faultsByKind: tally(faults.map(({ fault }) => fault.kind)),
    recoveries: recoveryTimes(history, faults),
    settledMs,
    ownEnds: [...installation.processes.values()].reduce((sum, each) => sum + each.ownEnds(), 0),
    outcomes: tally(load.promises.map(({ outcome }) => outcome)),
    answers: Object.fromEntries(load.answers),
    ...(powerLoss ? { powerLoss } : {}),
    counts: Object.fromEntries(counts) as Record<Count, number>,
    violations,
  };
}

function crashesOf(installation: Installation): string[] {
  return [...installation.processes.values()].flatMap(({ name, log }) =>
    log()
      .split('\n')
      .filter((line) => line.includes('a bug: the process ends'))
      .map((line) => `${name}: ${line.slice(0, 1_000)}`),
  );
}

function keepLogs({ installation, options }: Running): void {
  for (const { name, log } of installation.processes.values()) options.keepLogsOf?.(name, log());
}
