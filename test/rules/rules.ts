import type { Edit } from '../support/broken-copy.ts';

/** A rule that closes a way to lose, double or disorder something, and the test that fails where it is taken out. */
export type Rule = {
  /** What it says, as docs/reliability.md lists it. */
  readonly rule: string;
  /** The code without it. */
  readonly without: readonly Edit[];
  readonly test: { readonly file: string; readonly name: string };
};

const COMMIT = 'src/eventstore/commit.lua';
const TAKE = 'src/consumers/take.lua';
const READING = 'src/projections/reading.ts';
const RECOVERY_TEST = 'test/consumers/recovery-safety.test.ts';
const RECOVERING = 'src/consumers/recovery/recover.ts';
const REACTIONS = 'src/commands/reactions.ts';
const ERASING = 'src/consumers/erasures.ts';
const ERASURE_TEST = 'test/e2e/erasure.test.ts';
const FOUND_NOWHERE =
  'is found nowhere any more: not in Redis, tables, files, a rebuilt read model, or one that lagged behind';
const ARCHIVING = 'src/eventstore/archive/write.ts';

export const RULES: readonly Rule[] = [
  {
    rule: 'A commit names the store, epoch and server that it was decided at, and is refused elsewhere',
    without: [
      {
        file: COMMIT,
        from: 'if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then',
        to: 'if false then',
      },
    ],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'fenced: what was decided at another epoch, server or store is refused, with nothing done',
    },
  },
  {
    rule: 'A commit for a group is refused without the lease’s token: a worker that wakes up finishes nothing',
    without: [
      {
        file: COMMIT,
        from: '    if tokens[lease] ~= ARGV[a] then code = 4 end\n',
        to: '',
      },
    ],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'lease_lost: no lease, or another token; with the right one it commits',
    },
  },
  {
    rule: 'A commit’s claim is checked with the commit itself: the same key again gets the first answer',
    without: [
      {
        file: COMMIT,
        from: "local claim = code == 0 and call('GET', claim_key)",
        to: 'local claim = false',
      },
    ],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'replayed: the same key and fingerprint get the first answer and its position',
    },
  },
  {
    rule: 'Every stream that a commit appends to is at the version that was decided on',
    without: [{ file: COMMIT, from: 'right = version == expected', to: 'right = true' }],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'conflict: two that expect the same version, exactly one wins',
    },
  },
  {
    rule: 'An absent state means unknown: what was proven absent before an eviction must be proven again',
    without: [
      {
        file: COMMIT,
        from: "right = expected == '-' or (scanned ~= '-' and tonumber(scanned) >= evicted)",
        to: 'right = true',
      },
    ],
    test: {
      file: 'test/eventstore/load.test.ts',
      name: 'begun, finished and evicted between load and commit: the proof of absence no longer holds',
    },
  },
  {
    rule: 'A state from before the last recovery counts as absent',
    without: [{ file: COMMIT, from: '      if of == recovery then', to: '      if of then' }],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'conflict: a state from before the last recovery counts as absent',
    },
  },
  {
    rule: 'A state of another fold version is folded anew, so that old code writes back nothing that it does not know',
    without: [
      {
        file: 'src/eventstore/load.ts',
        from: 'if (kept.recovery !== recovery || kept.fold !== fold.fold) return undefined;',
        to: 'if (kept.recovery !== recovery) return undefined;',
      },
    ],
    test: {
      file: 'test/eventstore/load.test.ts',
      name: 'a state of another fold version is folded anew from the events; its version still counts',
    },
  },
  {
    rule: 'A call that is sent again after a lost reply gets the reply of the first',
    without: [
      {
        file: COMMIT,
        from: '  if number == ARGV[4] then return cmsgpack.unpack(sub(last, space + 1)) end\n',
        to: '',
      },
    ],
    test: {
      file: 'test/eventstore/lost-replies.test.ts',
      name: 'the reply of a commit is dropped: it is asked for again, and nothing is doubled',
    },
  },
  {
    rule: 'A call that arrives after its successor does nothing',
    without: [
      {
        file: COMMIT,
        from: "  if tonumber(number) > tonumber(ARGV[4]) then return redis.error_reply('STALE a later call was here') end\n",
        to: '',
      },
    ],
    test: {
      file: 'test/eventstore/lost-replies.test.ts',
      name: 'a call that arrives late, after its successor, does nothing',
    },
  },
  {
    rule: 'A reactor’s cursor moves by compare-and-set in the commit that enqueues its work',
    without: [
      {
        file: COMMIT,
        from: "    if (call('GET', cursor_key) or '') ~= ARGV[a] then code = 4 end\n",
        to: '',
      },
    ],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: "a reactor's cursor moves with what it does, and never from where it is not",
    },
  },
  {
    rule: 'What completes is let through where memory is short; a command is not',
    without: [
      {
        file: 'src/eventstore/commit.ts',
        from: 'completion: script(`#!lua flags=allow-oom\\n${body}`),',
        to: 'completion: script(`#!lua\\n${body} `),',
      },
    ],
    test: {
      file: 'test/eventstore/start.test.ts',
      name: 'Redis is full: commands are refused with nothing done, completions pass',
    },
  },
  {
    rule: 'Commands are refused at three quarters of the memory, before Redis has to',
    without: [
      { file: 'src/eventstore/memory-guard.ts', from: 'COMMAND_LIMIT = 0.75', to: 'COMMAND_LIMIT = 75' },
    ],
    test: {
      file: 'test/eventstore/start.test.ts',
      name: 'at three quarters of the memory commands are refused before Redis has to',
    },
  },
  {
    rule: 'A state is evicted only once the ledger has all of its events',
    without: [
      {
        file: 'src/eventstore/maintain.lua',
        from: 'if last and tonumber(last) <= held then',
        to: 'if last then',
      },
    ],
    test: {
      file: 'test/eventstore/load.test.ts',
      name: 'a state is evicted only once the ledger has all of its events; the log never loses its last entry',
    },
  },
  {
    rule: 'The log keeps a window behind the ledger, beyond what Postgres could lose',
    without: [
      {
        file: 'src/consumers/trimmer.ts',
        from: 'const beyondWindow = heldSeq - windowEvents;',
        to: 'const beyondWindow = heldSeq - Math.min(0, windowEvents);',
      },
    ],
    test: { file: 'test/consumers/trimmer.test.ts', name: 'keeps a window of the log behind the ledger' },
  },
  {
    rule: 'Log and ledger are compared by the event’s id, not by its seq: after a fork seqs go on rising',
    without: [
      {
        file: 'src/eventstore/compare.ts',
        from: 'if (found === event_id) return undefined;',
        to: 'if (found !== undefined) return undefined;',
      },
    ],
    test: {
      file: 'test/eventstore/restart.test.ts',
      name: 'Redis lost events and wrote others in their place: the fork is seen by the event ids',
    },
  },
  {
    rule: 'A log that begins beyond the ledger’s head is taken for what it is: Postgres went back',
    without: [
      {
        file: 'src/eventstore/compare.ts',
        from: 'if (log.first > head + 1 || (log.first > head && head > 0)) {',
        to: 'if (log.first < 0) {',
      },
    ],
    test: {
      file: 'test/eventstore/restart.test.ts',
      name: 'Postgres was restored from an older state: its head lies below what the log still has',
    },
  },
  {
    rule: 'After a restart older owners are fenced before the new server is trusted',
    without: [
      {
        file: 'src/eventstore/reconcile.ts',
        from: '    await takeOver(pg, partitions, runId);\n',
        to: '    void [takeOver, partitions];\n',
      },
    ],
    test: {
      file: 'test/eventstore/restart.test.ts',
      name: 'after a restart one process reconciles: older owners are fenced, leases are gone',
    },
  },
  {
    rule: 'After a restart no lease is left to who held it before',
    without: [
      {
        file: 'src/eventstore/reconcile.ts',
        from: '    await deleteLeases(connection, prefix, changed);\n',
        to: '    void [deleteLeases, prefix];\n',
      },
    ],
    test: {
      file: 'test/eventstore/restart.test.ts',
      name: 'after a restart one process reconciles: older owners are fenced, leases are gone',
    },
  },
  {
    rule: 'Who is the server is for Postgres to say: what only a replaced one has gets into no ledger',
    without: [
      {
        file: 'src/eventstore/reconcile.ts',
        from: 'return meta?.run === runId && open !== undefined && open.runId !== runId && open.epoch > meta.epoch;',
        to: 'return meta?.run === runId && open !== undefined && open.runId !== runId && open.epoch < 0;',
      },
      {
        file: 'src/eventstore/fence.ts',
        from: '    if (!lost && !wentBack && open.every(same)) return;\n',
        to: '    if (!lost && !wentBack && (open.every(same) || same !== undefined)) return;\n',
      },
    ],
    test: {
      file: 'test/consumers/failover.test.ts',
      name: 'a Redis that was replaced by another while some still speak to it gets nothing into the ledger any more',
    },
  },
  {
    rule: 'What processes were told by Redis is missed where a server has less, though the ledger never had it',
    without: [
      {
        file: 'src/eventstore/reconcile.ts',
        from: '    if (losses.length > 0) return lossMessage(losses);\n',
        to: '    void [losses, lossMessage];\n',
      },
    ],
    test: {
      file: 'test/eventstore/losses.test.ts',
      name: 'Redis comes back without events that it had acknowledged, and that the ledger never had',
    },
  },
  {
    rule: 'A loss that one process notices stops commits in all of them',
    without: [
      {
        file: 'src/eventstore/fence.ts',
        from: '    if (!lost && !wentBack && open.every(same)) return;\n',
        to: '    if (lost !== undefined && !wentBack && open.every(same)) return;\n',
      },
    ],
    test: {
      file: 'test/eventstore/losses.test.ts',
      name: 'One process knows of events that are gone, and comes after another has trusted the server',
    },
  },
  {
    rule: 'A checkpoint moves only under the newest token',
    without: [
      {
        file: 'src/eventstore/checkpoints.ts',
        from: 'WHERE group_name = $1 AND partition = $2 AND token = $6\n',
        to: 'WHERE group_name = $1 AND partition = $2 AND $6::bigint > 0\n',
      },
    ],
    test: { file: 'test/projections/runner.test.ts', name: 'whose token is stale writes nothing' },
  },
  {
    rule: 'An owner whose token Postgres has forgotten, as it was set back, writes nothing by what it knew',
    without: [{ file: 'src/eventstore/checkpoints.ts', from: ' AND token = $6\n', to: ' AND token <= $6\n' }],
    test: {
      file: 'test/projections/runner.test.ts',
      name: 'that Postgres has forgotten, as it was set back, writes nothing: its table may not be the one that is read',
    },
  },
  {
    rule: 'A checkpoint moves only from where the batch began',
    without: [
      {
        file: 'src/eventstore/checkpoints.ts',
        from: '    AND seq = $7 AND event_id IS NOT DISTINCT FROM $8\n',
        to: '    AND ($7::bigint IS NULL OR $8::text IS NULL OR true)\n',
      },
    ],
    test: {
      file: 'test/projections/conformance.test.ts',
      name: 'takes no event twice: a batch that comes again is refused, and changes nothing',
    },
  },
  {
    rule: 'Of checkpoints that move together each moves under its owner’s token, from where its batch began, or not',
    without: [
      {
        file: 'src/eventstore/gathered-moves.ts',
        from: '\n      AND c.token = given.token AND c.seq = from_seq AND c.event_id IS NOT DISTINCT FROM from_event_id\n',
        to: '\n',
      },
    ],
    test: {
      file: 'test/eventstore/gathered-moves.test.ts',
      name: 'stays, and its owner is told; the others move',
    },
  },
  {
    rule: 'A batch is bound to the server that it was read from: what a restart lost is not applied',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: 'isCurrent: ({ run: read }) => read === blocking.runId() && read === reader.runId(),',
        to: 'isCurrent: () => true,',
      },
    ],
    test: {
      file: 'test/consumers/partition-log.test.ts',
      name: 'disowns a batch that was read before Redis was restarted',
    },
  },
  {
    rule: 'A reader sees whether the log holds the very event that its checkpoint has read',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: 'if (!event || event.seq !== from.seq || from.eventId === null || event.id === from.eventId) return;',
        to: 'if (!event || event.seq >= 0) return;',
      },
    ],
    test: {
      file: 'test/consumers/projectors.test.ts',
      name: 'raise an alarm and stop where the log is another than the one that they read',
    },
  },
  {
    rule: 'The event before those that are kept for a reader is kept as well: who joins it there is compared with it',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: 'Math.min(...places.values()) - first.seq : 0',
        to: 'Math.min(...places.values()) + 1 - first.seq : 0',
      },
    ],
    test: {
      file: 'test/consumers/partition-log.test.ts',
      name: 'where what follows is kept for another that stands there',
    },
  },
  {
    rule: 'Who comes to the tail that readers share with another event at its checkpoint does not wait there',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: '(tail.eventId === null || eventId === null || tail.eventId === eventId)',
        to: 'true',
      },
    ],
    test: {
      file: 'test/consumers/partition-log.test.ts',
      name: 'where all others wait for more',
    },
  },
  {
    rule: 'The seam between ledger and log is checked: an event that is in neither stops its readers',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: 'return events.every((event, index) => event.seq === after + 1 + index);',
        to: 'return events.every((event) => event.seq > after);',
      },
    ],
    test: {
      file: 'test/consumers/projectors.test.ts',
      name: 'raise an alarm and stop where events are missing in the log and in the ledger',
    },
  },
  {
    rule: 'An event of a type that this code does not know is left to newer code, not passed over',
    without: [
      {
        file: 'src/projections/fold.ts',
        from: '  if (!codec.knows(raw.type)) throw new UnknownEventError(`event type ${raw.type} is unknown to this code`);\n',
        to: '',
      },
    ],
    test: {
      file: 'test/projections/runner.test.ts',
      name: 'leaves the whole batch to that code',
    },
  },
  {
    rule: 'Behind a parked event all later ones of its row are parked, and nothing else',
    without: [
      {
        file: 'src/projections/fold.ts',
        from: 'const blocked = new Set(loaded.blocked);',
        to: 'const blocked = new Set<string>(loaded.blocked.size < 0 ? loaded.blocked : []);',
      },
    ],
    test: {
      file: 'test/projections/runner.test.ts',
      name: 'holds back its row in later batches and under later owners',
    },
  },
  {
    rule: 'Rows that a projector has at hand are those of the checkpoint where its batch begins, or none',
    without: [
      {
        file: 'src/projections/kept-rows.ts',
        from: 'if (standing?.seq !== seq || standing.eventId !== eventId) clear();',
        to: 'if (seq < 0 || eventId === "") clear();',
      },
    ],
    test: {
      file: 'test/projections/kept-rows.test.ts',
      name: 'are gone where the batch begins at',
    },
  },
  {
    rule: 'The same event again is a redelivery, another one at its seq a fork: the ledger stops',
    without: [
      {
        file: 'src/consumers/ledger.ts',
        from: '    if (known.get(seq) !== id) {',
        to: '    if (id === undefined) {',
      },
      {
        file: 'src/consumers/ledger.ts',
        from: '    WHERE EXISTS (SELECT FROM moved)\n  ), begun AS (\n',
        to: '    WHERE EXISTS (SELECT FROM moved) ON CONFLICT DO NOTHING\n  ), begun AS (\n',
      },
    ],
    test: {
      file: 'test/consumers/ledger.test.ts',
      name: 'stops at another event where it has one already',
    },
  },
  {
    rule: 'The head of a stream moves in the ledger only from the version before',
    without: [
      {
        file: 'src/consumers/ledger.ts',
        from: 'CASE WHEN streams > 0 THEN',
        to: 'CASE WHEN streams < 0 THEN',
      },
    ],
    test: {
      file: 'test/consumers/ledger.test.ts',
      name: 'stops where a stream does not continue the version that it has',
    },
  },
  {
    rule: 'Each batch of the ledger names the hash of all before it',
    without: [
      {
        file: 'src/eventstore/ledger-hash.ts',
        from: "createHash('sha256').update(previous);",
        to: "createHash('sha256').update(GENESIS.subarray(0, previous.length));",
      },
    ],
    test: {
      file: 'test/eventstore/ledger-hash.test.ts',
      name: 'a batch has another hash behind another history',
    },
  },
  {
    rule: 'Work is taken under the lease’s token only',
    without: [
      {
        file: TAKE,
        from: "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end\n",
        to: '',
      },
    ],
    test: {
      file: 'test/consumers/lane.test.ts',
      name: 'by the holder of the lease only: a stale token takes nothing and promotes nothing',
    },
  },
  {
    rule: 'A new owner first reads what its predecessor had in hand',
    without: [
      {
        file: 'src/consumers/lane.ts',
        from: '  let pendingAfter: StreamIds | undefined = new Map();',
        to: '  let pendingAfter: StreamIds | undefined;',
      },
    ],
    test: {
      file: 'test/consumers/hand-over.test.ts',
      name: 'take over from one that was killed: what it ran is run once more, and completed once',
    },
  },
  {
    rule: 'A pending entry that a commit removed is acked, and never run',
    without: [
      {
        file: TAKE,
        from: '        if entry[2] then\n          give(stream, entry)\n        else',
        to: "        if entry then\n          give(stream, { entry[1], entry[2] or { 'w', '' } })\n        else",
      },
    ],
    test: {
      file: 'test/consumers/lane.test.ts',
      name: 'but not where a commit removed it while it was pending',
    },
  },
  {
    rule: 'A lane waits with how far it has read every one of its streams: what only another lane was woken by is not slept through',
    without: [
      {
        file: 'src/consumers/take.ts',
        from: 'ids: new Map(isAll ? read : [])',
        to: "ids: new Map([...(isAll ? read : [])].filter(([key]) => told.get(key) !== ''))",
      },
    ],
    test: {
      file: 'test/consumers/lane.test.ts',
      name: 'begins at once what came while it had no slot',
    },
  },
  {
    rule: 'An ordering key is held by one job, and what comes behind it is parked',
    without: [{ file: TAKE, from: '  if holder and holder ~= job then return true end\n', to: '' }],
    test: {
      file: 'test/consumers/ordering.test.ts',
      name: 'wait while the first of them is tried again and again, and run in their order then',
    },
  },
  {
    rule: 'A commit that frees an ordering key returns the oldest that is parked',
    without: [
      {
        file: COMMIT,
        from: "local next = call('LPOP', KEYS[k + 1])",
        to: "local next = call('RPOP', KEYS[k + 1])",
      },
    ],
    test: {
      file: 'test/consumers/ordering.test.ts',
      name: 'wait behind a dead letter until it is tried again, and run after it, in their order',
    },
  },
  {
    rule: 'An ordering key is freed only by the entry by which it is held',
    without: [
      {
        file: COMMIT,
        from: "if held_by == job and (due == '' or due == by) then",
        to: 'if held_by == job then',
      },
    ],
    test: {
      file: 'test/eventstore/commit.test.ts',
      name: 'an ordering key is freed by the job that holds it, and where it is said by which entry, by that one',
    },
  },
  {
    rule: 'Keyed work that is due now stands behind what was due before and nobody promoted yet',
    without: [
      {
        file: COMMIT,
        from: '  return tonumber(first[2]) <= now and now\n',
        to: '  return false\n',
      },
    ],
    test: {
      file: 'test/consumers/ordering.test.ts',
      name: 'do not overtake one that was due before them, though nobody had promoted it yet',
    },
  },
  {
    rule: 'Timers of one time are promoted in the order of their positions',
    without: [
      {
        file: COMMIT,
        from: "  local at = format('%014d', position)\n",
        to: "  local at = format('%014d', 99999 - position)\n",
      },
    ],
    test: {
      file: 'test/consumers/ordering.test.ts',
      name: 'run in the order of their times, and of their positions where these are the same',
    },
  },
  {
    rule: 'A run is numbered: of two under one lease only the last can say anything',
    without: [
      {
        file: 'src/commands/jobs/record.ts',
        from: '  if (loaded.state.runs !== runsOf(run.loaded.state)) return LOST;\n',
        to: '  void runsOf;\n',
      },
    ],
    test: {
      file: 'test/consumers/runs.test.ts',
      name: 'A run that lingers can say nothing of a job that was started again, under the same lease',
    },
  },
  {
    rule: 'The entry that a cancellation left behind is not taken for that of a retry',
    without: [
      {
        file: 'src/commands/jobs/taken.ts',
        from: "return 'spec' in state && state.dueAt === taken.dueAt;",
        to: "return 'spec' in state && taken.dueAt > 0;",
      },
    ],
    test: {
      file: 'test/commands/jobs.test.ts',
      name: 'of a cancelled job runs it once, though its first work entry is still there',
    },
  },
  {
    rule: 'A job found running when its worker was lost runs next in a process of its own, as no attempt',
    without: [
      {
        file: 'src/domain/jobs/runs.ts',
        from: "return state.phase === 'running' || ('suspect' in state && state.suspect);",
        to: "return 'suspect' in state && state.suspect;",
      },
    ],
    test: {
      file: 'test/consumers/poison.test.ts',
      name: 'do so once, then only processes of their own, and are dead letters; the 49 beside them succeed',
    },
  },
  {
    rule: 'A slot is given back by the run that has it, and by no earlier one',
    without: [
      {
        file: 'src/consumers/concurrency.lua',
        from: "  if (call('HGET', RUNS, job) or '') == run then\n",
        to: '  if true then\n',
      },
    ],
    test: {
      file: 'test/consumers/concurrency.test.ts',
      name: 'are the job’s, whoever runs it: its next owner has it at once, and its last one can’t give it back any more',
    },
  },
  {
    rule: 'A slot that nobody renews runs out',
    without: [
      {
        file: 'src/consumers/concurrency.lua',
        from: "for _, gone in ipairs(call('ZRANGEBYSCORE', SLOTS, '-inf', now)) do",
        to: "for _, gone in ipairs(call('ZRANGEBYSCORE', SLOTS, '-inf', 0)) do",
      },
    ],
    test: {
      file: 'test/consumers/concurrency.test.ts',
      name: 'that nobody renews run out, and those that are renewed do not',
    },
  },
  {
    rule: 'A lease does not go to a token below the one that is there',
    without: [
      {
        file: 'src/consumers/lease-acquire.lua',
        from: 'if held[2] and tonumber(held[2]) >= tonumber(ARGV[2]) then return -1 end\n',
        to: '',
      },
    ],
    test: {
      file: 'test/consumers/leases.test.ts',
      name: 'does not go to a token that is below the one that is there',
    },
  },
  {
    rule: 'The job of a reaction has an id that follows from its event: a lost cursor doubles nothing',
    without: [
      {
        file: 'src/commands/reactions.ts',
        from: '  const loaded = await deps.store.load(jobId, jobFold);\n',
        to: '  const loaded = { ...(await deps.store.load(jobId, jobFold)), state: jobFold.initial };\n',
      },
    ],
    test: { file: 'test/consumers/notifier.test.ts', name: 'is not told again where the cursor was lost' },
  },
  {
    rule: 'A run of a schedule has an id that follows from its tick: one run a tick, whoever ticks',
    without: [
      {
        file: 'src/commands/schedules.ts',
        from: "deps.hmac('run of a schedule', `${scheduleId} ${tick}`).slice(0, 40),",
        to: "deps.hmac('run of a schedule', `${scheduleId} ${tick} ${Math.random()}`).slice(0, 40),",
      },
      {
        file: COMMIT,
        from: 'right = version == expected',
        to: 'right = true',
      },
    ],
    test: {
      file: 'test/commands/schedules.test.ts',
      name: 'Eight at once tick a schedule: one of them enqueues its run, which carries owner and tick',
    },
  },
  {
    rule: 'What a handler returns or throws loses U+0000 and lone surrogates, which Postgres can not take',
    without: [
      {
        file: 'src/consumers/normalise.ts',
        from: "return text.replaceAll('\\u0000', '\\ufffd').toWellFormed();",
        to: 'return text;',
      },
    ],
    test: {
      file: 'test/consumers/parts.test.ts',
      name: 'loses U+0000 and lone surrogates, in keys too, and nothing else',
    },
  },
  {
    rule: 'No command is sent again by the client of Redis: who lost a reply asks under the same number',
    without: [
      {
        file: 'src/eventstore/connections.ts',
        from: '  maxRetriesPerRequest: 0,\n  autoResendUnfulfilledCommands: false,\n  enableOfflineQueue: false,\n',
        to: '  maxRetriesPerRequest: 20,\n  autoResendUnfulfilledCommands: true,\n  enableOfflineQueue: true,\n',
      },
    ],
    test: {
      file: 'test/eventstore/connections.test.ts',
      name: 'a command whose reply got lost is rejected, and never sent again',
    },
  },
  {
    rule: '`replicated` is answered only where the replicas speak for the server that has the event',
    without: [
      {
        file: 'src/eventstore/durability.ts',
        from: '    return now?.epoch === epoch && now.runId === connection.runId();\n',
        to: '    return now !== undefined && epoch > 0;\n',
      },
    ],
    test: {
      file: 'test/eventstore/durability.test.ts',
      name: 'replicated: the replicas of a server that took over do not speak for what only its predecessor has',
    },
  },
  {
    rule: 'Old events leave the ledger’s table only once their file was read back and found to be them',
    without: [
      {
        file: ARCHIVING,
        from: '  assertChained(await decodeArchive(await assertRight(files, file, sha256)), batches);\n',
        to: '',
      },
    ],
    test: {
      file: 'test/eventstore/archive.test.ts',
      name: 'before a file was whole leaves the ledger as it was',
    },
  },
  {
    rule: 'Only what the hash chain says was appended is archived',
    without: [
      {
        file: ARCHIVING,
        from: '    if (hashBatch(previous, its).equals(hash)) continue;',
        to: '    continue;',
      },
    ],
    test: {
      file: 'test/eventstore/archive.test.ts',
      name: 'what is not what was appended, and leaves it where it is',
    },
  },
  {
    rule: 'What a file holds counts from its row on, though the table may hold it as well',
    without: [
      {
        file: 'src/eventstore/ledger-read.ts',
        from: '...rows.filter(({ version }) => version > end)]',
        to: '...rows]',
      },
    ],
    test: { file: 'test/eventstore/archive.test.ts', name: 'after some of its rows had left the table' },
  },
  {
    rule: 'Who reads the ledger without its files is told so where events lie in them, and not given less',
    without: [
      {
        file: 'src/eventstore/ledger-read.ts',
        from: '    if (!archives) throw new ArchivedError(`events of partition ${partition} after ${after} lie in files`);',
        to: '    if (!archives) return [...found, ...(rows || [])];',
      },
    ],
    test: {
      file: 'test/eventstore/archive.test.ts',
      name: 'is an error for who was not told where files lie, and never left out',
    },
  },
  {
    rule: 'A recovery takes away first what makes a partition trusted: cut off, it leaves nothing that looks whole',
    without: [
      {
        file: 'src/consumers/recovery/recover.ts',
        from: '    for (const { meta } of keys) await connection.redis.unlink(meta);\n',
        to: '',
      },
    ],
    test: {
      file: 'test/consumers/recovery.test.ts',
      name: 'one that was cut off leaves all stopped, and is done again from the beginning',
    },
  },
  {
    rule: 'What the log holds beyond the ledger is taken over before anything is made anew',
    without: [
      {
        file: 'src/consumers/recovery/recover.ts',
        from: "        kind === 'whole' ? append(events) : putAside(db, events),\n",
        to: "        kind === 'whole' ? Promise.resolve(void append) : putAside(db, events),\n",
      },
    ],
    test: {
      file: 'test/consumers/recovery.test.ts',
      name: 'what the log holds beyond the ledger is taken over: nothing is lost',
    },
  },
  {
    rule: 'Events that were read before a recovery are not applied after it, though the server is the same',
    without: [
      {
        file: 'src/consumers/partition-log.ts',
        from: 'if (run === now && epoch === current) return;',
        to: 'if (run === now) return;',
      },
    ],
    test: {
      file: 'test/consumers/partition-log.test.ts',
      name: 'drops what was read before the log was made anew at the same server',
    },
  },
  {
    rule: 'A replica answers from the snapshot in which its checkpoint was looked up',
    without: [
      { file: READING, from: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', to: 'BEGIN READ ONLY' },
    ],
    test: {
      file: 'test/projections/reading.test.ts',
      name: 'the checkpoint is that of the snapshot that the rows are read in',
    },
  },
  {
    rule: 'A replica answers only what includes all that the caller has seen',
    without: [{ file: READING, from: 'return all ? {', to: 'return all || !all ? {' }],
    test: {
      file: 'test/projections/reading.test.ts',
      name: 'what a replica does not include yet comes from the primary',
    },
  },
  {
    rule: 'Where several servers answer, an answer says how far it is: brought along, nothing that was shown goes back',
    without: [{ file: READING, from: '    wanted.onAnswer?.(answer.at);\n', to: '' }],
    test: {
      file: 'test/projections/reading.test.ts',
      name: 'who brings what an answer said is never shown anything older',
    },
  },
  {
    rule: 'A replica that was promoted is asked no more',
    without: [
      {
        file: 'src/eventstore/replicas.ts',
        from: 'if (!replica.recovering) return',
        to: 'if (false) return',
      },
    ],
    test: {
      file: 'test/eventstore/replicas.test.ts',
      name: 'a replica that is gone, hangs or was promoted is left out within a second, and comes back by itself',
    },
  },
  {
    rule: 'What was due when Redis was made anew waits in its place, though it had a timer',
    without: [
      {
        file: 'src/consumers/recovery/restore.ts',
        from: 'if (onTimer && state.dueAt > now) {',
        to: 'if (onTimer) {',
      },
    ],
    test: {
      file: 'test/consumers/recovery.test.ts',
      name: 'jobs wait as they did: holders first, then in the order of becoming due, ties by position',
    },
  },
  {
    rule: 'Going over to a rebuilt table fences who is at work on the old one',
    without: [
      {
        file: 'src/projections/rebuild/swap.ts',
        from: 'event_id = excluded.event_id, token = excluded.token, moved_at = now()',
        to: 'event_id = excluded.event_id, moved_at = now()',
      },
    ],
    test: {
      file: 'test/projections/rebuild.test.ts',
      name: 'fences who was at work on the old table when it goes live',
    },
  },
  {
    rule: 'A checkpoint of a rebuild is made where it begins only: who comes late can’t write into what is live by then',
    without: [
      {
        file: 'src/projections/rebuild/group.ts',
        from: 'const opened = await openExisting(db, group, partition, token);',
        to: 'const opened = await openCheckpoint(db, group, partition, token);',
      },
      {
        file: 'src/projections/rebuild/group.ts',
        from: "import { readCheckpoint } from '../../eventstore/checkpoints.ts';",
        to: "import { openCheckpoint, readCheckpoint } from '../../eventstore/checkpoints.ts';",
      },
    ],
    test: {
      file: 'test/projections/rebuild.test.ts',
      name: 'that is over can’t be written to by who comes late',
    },
  },
  {
    rule: 'A rebuilt table goes live only where it holds no less than the one before',
    without: [
      {
        file: 'src/projections/rebuild/swap.ts',
        from: 'if (performance.now() > deadline) return false;',
        to: 'if (performance.now() > deadline) break;',
      },
    ],
    test: {
      file: 'test/projections/conformance.test.ts',
      name: 'is the same once it was rebuilt, however often that was cut off, while events went on arriving',
    },
  },
  {
    rule: 'A rebuild stops at what it can’t apply, unless it was told to park that',
    without: [
      {
        file: 'src/projections/rebuild/fill.ts',
        from: 'if (poisoned && !options.parks)',
        to: 'if (poisoned && options.page === 0)',
      },
    ],
    test: {
      file: 'test/projections/rebuild.test.ts',
      name: 'ends at an event that can’t be applied, names it, and leaves the live read model as it is',
    },
  },
  {
    rule: 'Going over to a rebuilt table waits for who reads the old one for long, and holds nobody else up meanwhile',
    without: [
      {
        file: 'src/projections/rebuild/swap.ts',
        from: 'const VIEW_LOCK_MS = 40;',
        to: 'const VIEW_LOCK_MS = 20_000;',
      },
    ],
    test: {
      file: 'test/projections/rebuild.test.ts',
      name: 'waits for who reads the old table for long, without holding up the others',
    },
  },
  {
    rule: 'A share goes to members whose code has its group: of two versions, each feeds its own table',
    without: [
      {
        file: 'src/consumers/ownership.ts',
        from: '(has.has(group) ? member : [])',
        to: '(has.size > 0 ? member : [])',
      },
    ],
    test: {
      file: 'test/e2e/two-versions.test.ts',
      name: 'a rolling deploy of a changed read model, and the way back: under load no error, and nothing lost',
    },
  },
  {
    rule: 'A projector stays while somebody reads what nobody else would feed',
    without: [{ file: 'src/app/versions.ts', from: 'others.length > 0 &&', to: 'others.length < 0 &&' }],
    test: {
      file: 'test/e2e/two-versions.test.ts',
      name: 'a rolling deploy of a changed read model, and the way back: under load no error, and nothing lost',
    },
  },
  {
    rule: 'An API process is not ready before its read models have caught up once',
    without: [
      { file: 'src/app/versions.ts', from: 'if (missing.length === 0)', to: 'if (missing.length >= 0)' },
    ],
    test: {
      file: 'test/e2e/two-versions.test.ts',
      name: 'a rolling deploy of a changed read model, and the way back: under load no error, and nothing lost',
    },
  },
  {
    rule: 'Fencing tokens go on above all that Redis has seen, also where Postgres was set back to before it gave them out',
    without: [{ file: 'src/eventstore/installation.ts', from: '  await passTokens(db, above);\n', to: '' }],
    test: {
      file: 'test/eventstore/set-back.test.ts',
      name: 'tokens that Postgres gave out before it was set back are not given out again',
    },
  },
  {
    rule: 'A lease is taken with a higher token than its group ever had, not only than the lease that is there',
    without: [
      {
        file: 'src/consumers/lease-acquire.lua',
        from: "if redis.call('EXISTS', KEYS[2]) == 1 then",
        to: 'if false then',
      },
    ],
    test: {
      file: 'test/consumers/leases.test.ts',
      name: 'has a higher token than any before it, also where Postgres was set back to before it gave that out',
    },
  },
  {
    rule: 'Epochs of positions that Postgres forgot are read off the log before a new one begins',
    without: [
      { file: 'src/eventstore/reconcile.ts', from: '    if (setBack) await makeUp(pg, setBack);\n', to: '' },
    ],
    test: {
      file: 'test/eventstore/set-back.test.ts',
      name: 'positions of epochs that began after the backup was taken are known again, each within its bounds',
    },
  },
  {
    rule: 'What Postgres lost when it was set back is taken over again, also where nothing happens that would tell',
    without: [
      {
        file: 'src/consumers/reader.ts',
        from: '        if (standing?.isSetBack) standing = undefined;\n',
        to: '',
      },
    ],
    test: {
      file: 'test/consumers/set-back.test.ts',
      name: 'and its readers take over again what it lost, without an event that tells them',
    },
  },
  {
    rule: 'A process that runs compares log and ledger once more where the ledger has become shorter',
    without: [
      { file: 'src/eventstore/fence.ts', from: 'if (!lost && !wentBack && open', to: 'if (!lost && open' },
    ],
    test: {
      file: 'test/eventstore/set-back.test.ts',
      name: 'a running process notices a gap by itself, stops commits, and goes on once a newer backup is there',
    },
  },
  {
    rule: 'A paused group applies nothing more, in any process',
    without: [
      {
        file: 'src/consumers/reader.ts',
        from: 'const isPaused = () => group.name !== LEDGER_GROUP && deps.paused.has(group.name);',
        to: 'const isPaused = () => false;',
      },
    ],
    test: {
      file: 'test/consumers/paused-groups.test.ts',
      name: 'applies nothing, in any process, while others go on; resumed, it goes on where it stood',
    },
  },
  {
    rule: 'A process that does not know yet which groups are paused reads for none but the ledger',
    without: [
      {
        file: 'src/consumers/paused-groups.ts',
        from: 'known?.has(group) ?? true',
        to: 'known?.has(group) ?? false',
      },
    ],
    test: {
      file: 'test/consumers/paused-groups.test.ts',
      name: 'is not read for while it can not be known yet whether it is paused',
    },
  },
  {
    rule: 'What an operator had a reactor pass over stays passed over when its cursor is found again',
    without: [
      {
        file: 'src/consumers/recovery/restore.ts',
        from: 'const moved = await lastMove(db, partition, reactor);',
        to: 'const moved = undefined;',
      },
    ],
    test: {
      file: 'test/consumers/seek.test.ts',
      name: 'stays there when Redis is made anew: what it passed over stays passed over',
    },
  },
  {
    rule: 'What a replay enqueued says nothing of where its reactor stands',
    without: [
      {
        file: REACTIONS,
        from: 'replay: { id: replay, reactor, seq: event.seq } }',
        to: 'reaction: { reactor, seq: event.seq }, replay: { id: replay, reactor, seq: event.seq } }',
      },
    ],
    test: {
      file: 'test/consumers/replay.test.ts',
      name: 'says nothing of where its reactor stands, when that is to be found again',
    },
  },
  {
    rule: 'The ids of what a replay enqueues follow from the replay and the event: cut off, it does nothing twice',
    without: [{ file: REACTIONS, from: '`${replay}\\n${jobId}`', to: 'deps.randomText(20)' }],
    test: {
      file: 'test/consumers/replay.test.ts',
      name: 'that is cut off anywhere goes on there, and does nothing twice; another one does all of it again',
    },
  },
  {
    rule: 'A replay is beyond an event only once the ledger has what was enqueued for it',
    without: [
      {
        file: 'src/consumers/replay/job.ts',
        from: '    await ledgerHolds(deps.db, head, signal);\n',
        to: '',
      },
    ],
    test: {
      file: 'test/consumers/replay.test.ts',
      name: 'counts nothing as done that Redis may still lose: the ledger must have it',
    },
  },
  {
    rule: 'A replay does what was planned and confirmed, or nothing',
    without: [{ file: 'src/app/replays.ts', from: 'if (!isPlanned && ', to: 'if (false && ' }],
    test: {
      file: 'test/e2e/replay.test.ts',
      name: 'is refused where its plan is missing, or stale; a retry of the request gets the first answer',
    },
  },
  {
    rule: 'Of persons who were erased nothing is replayed',
    without: [
      {
        file: 'src/consumers/replay/events.ts',
        from: "      if (erased.has(ownerOf(meta) ?? '')) return false;\n",
        to: '',
      },
    ],
    test: { file: 'test/consumers/replay.test.ts', name: 'has nothing of persons who were erased' },
  },
  {
    rule: 'What was read while it changed is not kept in the read cache',
    without: [
      {
        file: 'src/access/read_cache.lua',
        from: "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n",
        to: '',
      },
    ],
    test: {
      file: 'test/access/read-cache.test.ts',
      name: 'what was read before it changed is not kept once the change was told',
    },
  },
  {
    rule: 'A rebuild that goes live takes all that was read of its read model out of the read cache',
    without: [{ file: 'src/app/rebuilding.ts', from: '      onOtherRows(liveGroup(projection));\n', to: '' }],
    test: {
      file: 'test/e2e/read-cache.test.ts',
      name: 'hot reads come from Redis, never older than what the caller brings, sealed as in Postgres; without Redis they go on',
    },
  },
  {
    rule: 'A recovery does nothing any more once the lock is gone that keeps others out: another one may be over',
    without: [{ file: RECOVERING, from: '      await sql`SELECT 1`.execute(pg);\n', to: '' }],
    test: {
      file: RECOVERY_TEST,
      name: 'a recovery that lost the connection that keeps others out does nothing any more: another one may be over',
    },
  },
  {
    rule: 'A recovery tells Postgres of epochs that it forgot before it takes away what knows of them',
    without: [{ file: RECOVERING, from: '    if (setBack) await makeUp(pg, setBack);\n', to: '' }],
    test: {
      file: RECOVERY_TEST,
      name: 'a recovery that was cut off, after Postgres was set back, begins no epoch that there was before',
    },
  },
  {
    rule: 'A Redis that holds another installation’s log is not made anew',
    without: [
      { file: 'src/consumers/recovery/ours.ts', from: '  if (!other) return metas;', to: '  return metas;' },
    ],
    test: {
      file: RECOVERY_TEST,
      name: 'a Redis that holds the log of another installation is not made anew',
    },
  },
  {
    rule: 'A job whose events move to files while a recovery looks for it is found, and one that lies in both once',
    without: [
      {
        file: 'src/consumers/recovery/unfinished.ts',
        from: '      LEFT JOIN ledger l',
        to: '      JOIN ledger l',
      },
    ],
    test: {
      file: RECOVERY_TEST,
      name: 'an unfinished job is found once, whether its events lie in the table, in a file, in both, or move meanwhile',
    },
  },
  {
    rule: 'A log that is trimmed while it is compared is not taken for one that lost events',
    without: [{ file: 'src/eventstore/compare.ts', from: ' || seq < (await firstOf(redis, keys))', to: '' }],
    test: {
      file: RECOVERY_TEST,
      name: 'a log that is trimmed while it is compared with the ledger is not taken for one that lost events',
    },
  },
  {
    rule: 'What a process was told is compared with what Redis says afterwards: what comes meanwhile is not taken for lost',
    without: [
      {
        file: 'src/eventstore/reconcile.ts',
        from: 'findLosses(pg, metas, known)',
        to: 'findLosses(pg, metas, told.all())',
      },
    ],
    test: {
      file: RECOVERY_TEST,
      name: 'what is committed and read while Redis is compared is not missed: nothing of it is taken for lost',
    },
  },
  {
    rule: 'A recovery takes back a read model that has read another event where it stands',
    without: [{ file: RECOVERING, from: ", eb('l.event_id', '<>', eb.ref('c.event_id'))", to: '' }],
    test: {
      file: RECOVERY_TEST,
      name: 'a read model that has read another event where it stands is taken back',
    },
  },
  {
    rule: 'A recovery knows idempotency keys again by Redis’ clock, as their events have it',
    without: [
      {
        file: 'src/consumers/recovery/restore.ts',
        from: 'now - to.retentionMs',
        to: 'Date.now() - to.retentionMs',
      },
    ],
    test: {
      file: RECOVERY_TEST,
      name: 'idempotency keys are known again by Redis’ clock, whatever that of the operator’s machine says',
    },
  },
  {
    rule: 'A file of the archive is known only where it follows the last one, and the ledger has its events',
    without: [
      {
        file: 'src/eventstore/archive/register.ts',
        from: 'if (follows && batch && Buffer.compare(batch.hash, hash) === 0) return;',
        to: 'if (partition >= 0) return;',
      },
    ],
    test: {
      file: 'test/eventstore/archive.test.ts',
      name: 'as its lock was lost, and another one was made meanwhile, makes no file beside those of the other',
    },
  },
  {
    rule: 'Events leave the table only where Postgres knows, in that very moment, of the file that has them',
    without: [{ file: ARCHIVING, from: '      .where(isKnown(archive))\n', to: '' }],
    test: {
      file: 'test/eventstore/archive.test.ts',
      name: 'as Postgres was set back to before the file was known takes nothing from the table',
    },
  },
  {
    rule: 'The log is kept for as long as it should be by the clock of Postgres, which says when the ledger took what',
    without: [
      {
        file: 'src/consumers/trimmer.ts',
        from: "sql<Date>`now() - ${retentionMs} * interval '1 ms'`",
        to: 'new Date(Date.now() - retentionMs)',
      },
    ],
    test: {
      file: 'test/consumers/trimmer.test.ts',
      name: 'keeps events for as long as it should, also where the clock of its machine is ahead',
    },
  },
  {
    rule: 'Losses are accepted as they were shown to who accepts them, and no others',
    without: [{ file: 'src/eventstore/losses.ts', from: "      .where('seq', '<=', seq)\n", to: '' }],
    test: {
      file: 'test/eventstore/losses.test.ts',
      name: 'What was found to be missing after somebody had looked is not accepted with what he saw',
    },
  },
  {
    rule: 'A recovery empties the read cache: what it has may show what is lost',
    without: [{ file: RECOVERING, from: '    await deps.forgetReads();\n', to: '' }],
    test: {
      file: 'test/consumers/recovery.test.ts',
      name: 'answers that were kept in the read cache are gone with it: they may show what is lost',
    },
  },
  {
    rule: 'The read cache serves nothing that is older than the caller’s position, whoever did not tell it of a change',
    without: [{ file: 'src/app/cached-reads.ts', from: 'position.seq <= mark.seq', to: 'position.seq > 0' }],
    test: {
      file: 'test/app/cached-reads.test.ts',
      name: 'what is older than the caller’s position is never served, also where nobody told the cache of the change',
    },
  },
  {
    rule: 'Who reads in a snapshot has locked the view before it: a generation that goes live in between is read whole',
    without: [
      { file: READING, from: '; LOCK TABLE ${sql.table(projection.table)} IN ACCESS SHARE MODE', to: '' },
    ],
    test: {
      file: 'test/projections/reading.test.ts',
      name: 'a rebuilt read model that goes live while somebody begins to read is read whole, with its checkpoint',
    },
  },
  {
    rule: 'What an operator does is recorded with a reason, or refused',
    without: [
      {
        file: 'src/domain/operations.ts',
        from: '  if (!reason?.trim())',
        to: '  if (false)',
      },
    ],
    test: {
      file: 'test/commands/operations.test.ts',
      name: 'without a reason nothing is recorded, and so nothing may be done',
    },
  },
  {
    rule: 'Of who follows all events and falls behind nothing is dropped: each partition is read on from its place',
    without: [
      {
        file: 'src/eventstore/feed/inbox.ts',
        from: '        for (const { partition } of events) stale.add(partition);\n',
        to: '',
      },
      {
        file: 'src/eventstore/feed/follow.ts',
        from: '        if (seq !== place.seq + 1) {',
        to: '        if (seq < place.seq + 1) {',
      },
    ],
    test: {
      file: 'test/eventstore/feed.test.ts',
      name: 'who fetches slowly is not cut off: it falls behind, and still hears each event once',
    },
  },
  {
    rule: 'Who comes back with a place that was lost with Redis is told so, and hears what stands behind it',
    without: [
      {
        file: 'src/eventstore/feed/places.ts',
        from: '    if (seq <= end) return { epoch, seq };',
        to: '    if (end > 0) return { epoch, seq };',
      },
    ],
    test: {
      file: 'test/eventstore/feed.test.ts',
      name: 'Redis comes back without events that were followed: who had them is told which, and hears what stands',
    },
  },
  {
    rule: 'Events that lie in files are read from there by who reads all events: the table begins behind them',
    without: [
      {
        file: 'src/eventstore/feed/read.ts',
        from: '    if (part.archivedTo > source.scanned.seq) {',
        to: '    if (part.archivedTo < 0) {',
      },
    ],
    test: {
      file: 'test/e2e/events.test.ts',
      name: 'operators read all events by type, stream, request and time, from files, ledger and log alike',
    },
  },
  {
    rule: 'Nothing of a person is deleted before the ledger holds the event that says that they are erased',
    without: [
      { file: ERASING, from: '  await erasureIsHeld(deps, accountId, signal);\n', to: '' },
      { file: ERASING, from: '      await ledgerHolds(db, heads, signal);\n', to: '' },
    ],
    test: { file: ERASURE_TEST, name: FOUND_NOWHERE },
  },
  {
    rule: 'The job of an erased person’s export ends before its file is removed: one that is done in between leaves none',
    without: [
      {
        file: ERASING,
        from: `        if (await endJob(jobOfExport(streamId))) writing.add(streamId);
        await blobs.removeFolder(filesOf(streamId));
`,
        to: `        await blobs.removeFolder(filesOf(streamId));
        if (await endJob(jobOfExport(streamId))) writing.add(streamId);
`,
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'takes away the file of an export that is done just while it looks at it',
    },
  },
  {
    rule: 'A job of an erased person that ends by itself while it is to be ended is looked at again, and no dead letter stays',
    without: [
      {
        file: ERASING,
        from: "if (result.kind !== 'done') continue;",
        to: "if (result.kind !== 'done') return false;",
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'discards a job that becomes a dead letter just while it looks at it',
    },
  },
  {
    rule: 'Who is erased leaves no file half written: neither by a worker that died, nor by one that wakes up',
    without: [
      {
        file: 'src/blobs/disk.ts',
        from: '      await rm(path, { recursive: true, force: true, maxRetries: 5 });\n',
        to: '      for await (const key of walk(folder, prefix, prefix)) await rm(pathOf(key));\n',
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'takes away what an export’s writer has left half written, and what one wakes up to write',
    },
  },
  {
    rule: 'From the commit that erases a person on no access token of theirs is good, whatever sessions there are',
    without: [
      { file: 'src/access/sessions.ts', from: "    if (isErased(account)) return 'ended';\n", to: '' },
    ],
    test: { file: ERASURE_TEST, name: FOUND_NOWHERE },
  },
  {
    rule: 'Whoever erases an account in place of a password by a log-in has logged in anew, just now, in another session',
    without: [
      {
        file: 'src/http/reauthentication.ts',
        from: 'again.sessionId === caller.sessionId) return false;',
        to: 'again.sessionId === undefined) return false;',
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'may show that it is them by a log-in of just now, in place of the password',
    },
  },
  {
    rule: 'A registration that is sent again makes nothing of an account that was erased since',
    without: [
      {
        file: 'src/commands/accounts.ts',
        from: "  if (isErased(known)) return { kind: 'refused', refusal: wasErased().refusal };\n",
        to: '',
      },
    ],
    test: {
      file: 'test/commands/erasures.test.ts',
      name: 'makes nothing of it again: a registration that is sent once more gets neither key nor password',
    },
  },
  {
    rule: 'Who was erased the ledger says, where a read model lags behind: a key that is gone is no fault then',
    without: [
      {
        file: 'src/projections/erasures.ts',
        from: "  return events.some(({ type }) => type === 'AccountErased');\n",
        to: '  return events.length < 0;\n',
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'is known from the ledger where read models lag behind: no job of theirs fails for want of the key',
    },
  },
  {
    rule: 'How old a person’s key is is counted from when it was asked for, by a clock that nobody sets',
    without: [
      {
        file: 'src/access/person-keys.ts',
        from: 'now = () => performance.now() } = options',
        to: 'now = () => Date.now() } = options',
      },
    ],
    test: {
      file: 'test/access/person-keys.test.ts',
      name: 'a wall clock that is set back lets no key live on',
    },
  },
  {
    rule: 'While Postgres is away only the keys go on of who is known not to be erased: it may be away for this process alone',
    without: [
      {
        file: 'src/access/person-keys.ts',
        from: 'return key && (await stands(accountId).catch(() => false)) ? key : undefined;',
        to: 'return key ?? (stands.length < 0 ? key : undefined);',
      },
    ],
    test: {
      file: 'test/access/person-keys.test.ts',
      name: 'while Postgres is away what was known goes on, of whoever is known not to be erased',
    },
  },
  {
    rule: 'A schedule that somebody has left behind who was erased is deleted when it is due',
    without: [
      {
        file: 'src/commands/schedules.ts',
        from: "const over = state.phase === 'active' && (await ownerIsErased(deps, state.owner));",
        to: 'const over = false;',
      },
    ],
    test: {
      file: 'test/commands/schedules.test.ts',
      name: 'The schedule that somebody has left behind who was erased is deleted when it is due, and runs nothing',
    },
  },
  {
    rule: 'What a restored Postgres brings back of persons who were erased since goes again',
    without: [
      {
        file: 'src/app/projectors.ts',
        from: 'keepErased(db, base.logger)',
        to: '{ stop: () => {} }; void keepErased',
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'is done by an operator, with a reason, and again after Postgres was restored to before it',
    },
  },
  {
    rule: 'What an account’s job says is sealed before anything is written, and what it comes to before it is recorded',
    without: [
      {
        file: 'src/consumers/conclude.ts',
        from: 'recordCompletion(deps, run, sealer.json(performed.value))',
        to: 'recordCompletion(deps, run, performed.value)',
      },
    ],
    test: {
      file: ERASURE_TEST,
      name: 'is sealed wherever it is kept, told to whom it is for, and gone with the key',
    },
  },
  {
    rule: 'No process uses the key of a person for longer than two seconds without asking for it again',
    without: [
      {
        file: 'src/access/person-keys.ts',
        from: 'ready: (accountId) => fresh(accountId, KEY_MS)',
        to: 'ready: (accountId) => fresh(accountId, OUTAGE_MS)',
      },
    ],
    test: {
      file: 'test/access/person-keys.test.ts',
      name: 'a key that was deleted is gone from every process two seconds later',
    },
  },
];
