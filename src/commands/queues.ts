import type { Decision } from '../domain/decision.ts';
import { partitionOf, queueStream } from '../domain/ids.ts';
import type { JobQueue } from '../domain/jobs/events.ts';
import {
  pauseQueue as decidePause,
  resumeQueue as decideResume,
  type Queue,
  type QueueEvent,
  queueFold,
} from '../domain/queues.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';

export type QueueCommandDeps = CommandDeps & {
  /** Tells the workers to look sooner. May get lost: they look by themselves after a while. */
  readonly hint: { readonly queue: (queue: JobQueue) => void };
};

export type QueueChanged = { readonly id: JobQueue; readonly version: number; readonly paused: boolean };

/** From now on nothing of the queue is begun, in any process; what runs ends. Doing so again changes nothing. */
export function pauseQueue(
  deps: QueueCommandDeps,
  context: CommandContext,
  queue: JobQueue,
): Promise<CommandResult<QueueChanged>> {
  return change(deps, context, queue, decidePause);
}

/** What waits in the queue is begun at once. Doing so again changes nothing. */
export function resumeQueue(
  deps: QueueCommandDeps,
  context: CommandContext,
  queue: JobQueue,
): Promise<CommandResult<QueueChanged>> {
  return change(deps, context, queue, decideResume);
}

async function change(
  deps: QueueCommandDeps,
  asked: CommandContext,
  queue: JobQueue,
  decide: (state: Queue, queue: JobQueue) => Decision<QueueEvent>,
): Promise<CommandResult<QueueChanged>> {
  const streamId = queueStream(queue);
  // A queue is the installation's: its events are nobody's to export but an operator's.
  const { owner: _asker, ...context } = asked;
  const result = await handle<QueueChanged>(deps, context, partitionOf(streamId), async () => {
    const loaded = await deps.store.load(streamId, queueFold);
    const decision = decide(loaded.state, queue);
    if (!decision.ok) return decision;
    const at = deps.now().toISOString();
    const changed = changeOf(context, at, { streamId, ...loaded }, queueFold, decision.events);
    const paused = (changed.state.value as Queue).phase === 'paused';
    return { ok: true, plan: { changes: [changed], body: { id: queue, version: changed.version, paused } } };
  });
  if (result.kind === 'done') deps.hint.queue(queue);
  return result;
}
