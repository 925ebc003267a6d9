import type { Edit } from '../support/broken-copy.ts';
import type { Count } from './history.ts';
import type { Kind } from './plan.ts';

/** The code, broken on purpose: the suite must count what follows from it. */
export type Breakage = {
  readonly name: string;
  readonly what: string;
  readonly edits: readonly Edit[];
  /** Faults under which it matters. */
  readonly faults: readonly Kind[];
  readonly seed: number;
  /** One of these must not be 0. */
  readonly shownBy: readonly Count[];
};

const TOKEN_CHECK = '    if tokens[lease] ~= ARGV[a] then code = 4 end\n';
const RUNS_CHECK = '  if (loaded.state.runs !== runsOf(run.loaded.state)) return LOST;\n';
const withoutRunsCheck = {
  file: 'src/commands/jobs/record.ts',
  from: RUNS_CHECK,
  to: '  void runsOf;\n',
};

export const BREAKAGES: readonly Breakage[] = [
  {
    name: 'fence-dropped',
    what: 'a commit is taken whatever lease token it names, and no run asks whether it is still the last one',
    edits: [{ file: 'src/eventstore/commit.lua', from: TOKEN_CHECK, to: '' }, withoutRunsCheck],
    faults: ['stop', 'partition', 'half-open'],
    seed: 101,
    shownBy: ['stale'],
  },
  {
    name: 'ack-before-commit',
    what: 'a work entry is acked and removed as it is taken, before anything is known of its job',
    edits: [
      {
        file: 'src/consumers/take.lua',
        from: `          park(key, entry[1], entry[2])
        else
          give(stream, entry)
        end
`,
        to: `          park(key, entry[1], entry[2])
        else
          give(stream, entry)
          redis.call('XACK', key, 'lane', entry[1])
          redis.call('XDEL', key, entry[1])
        end
`,
      },
    ],
    faults: ['kill', 'drop-replies'],
    seed: 102,
    shownBy: ['unfinished'],
  },
  {
    name: 'answer-before-commit',
    what: 'a command is answered, and committed a moment later',
    edits: [
      {
        file: 'src/commands/handle.ts',
        from: '    const outcome = await deps.traceCommit(',
        to: `    setTimeout(() => {
      deps.store.commit(commitRequest(deps, context, partition, plan)).catch(() => {});
    }, 100);
    if (partition >= 0) return { kind: 'done', body: plan.body, position: '0.1.1', replayed: false, durability: context.durability };
    const outcome = await deps.traceCommit(`,
      },
    ],
    faults: ['kill', 'redis-restart', 'partition'],
    seed: 103,
    shownBy: ['missing'],
  },
  {
    name: 'claim-by-age',
    what: 'what a handler has had for a second is taken for abandoned and run again, and no run asks whether it is the last',
    edits: [
      {
        file: 'src/consumers/lane.ts',
        from: '    running.add(run);\n',
        to: `    running.add(run);
    setTimeout(() => {
      held.delete(key);
      pendingAfter = new Map();
    }, 1_000);
`,
      },
      withoutRunsCheck,
    ],
    faults: ['latency'],
    seed: 104,
    shownBy: ['stale'],
  },
  {
    name: 'pending-not-read',
    what: 'who takes a lane over begins with what is new, and not with what its last owner had',
    edits: [
      {
        file: 'src/consumers/take.lua',
        from: '      local found = read(key, left, after)\n',
        to: '      local found = {}\n',
      },
    ],
    faults: ['kill'],
    seed: 105,
    shownBy: ['unfinished'],
  },
  {
    name: 'blocked-ignored',
    what: 'a job is given out whoever holds its ordering key',
    edits: [
      {
        file: 'src/consumers/take.lua',
        from: '  if holder and holder ~= job then return true end\n',
        to: '',
      },
    ],
    faults: ['kill', 'deploy'],
    seed: 106,
    shownBy: ['overlapping', 'outOfOrder'],
  },
  {
    name: 'version-ignored',
    what: 'a commit is taken whatever version of a stream it was decided on',
    edits: [
      {
        file: 'src/eventstore/commit.lua',
        from: '        right = version == expected\n',
        to: '        right = true\n',
      },
    ],
    faults: ['kill', 'stop'],
    seed: 107,
    shownBy: ['unfinished', 'ledger', 'log', 'illegal'],
  },
  {
    name: 'claim-ignored',
    what: 'an idempotency key is written down and never looked at',
    edits: [
      {
        file: 'src/eventstore/commit.lua',
        from: "    local claim = code == 0 and call('GET', claim_key)\n",
        to: '    local claim = false\n',
      },
    ],
    faults: ['kill', 'drop-replies'],
    seed: 108,
    shownBy: ['doubled'],
  },
];
