import type { CommandContext } from '../commands/handle.ts';
import { recordOperation } from '../commands/operations.ts';
import type { Config } from '../config.ts';
import type { Operation } from '../domain/operations.ts';
import { agreed, type ChangeOptions, contextOf, RefusedError } from './changes.ts';
import type { WriteSide } from './installation.ts';

/** A change that has no events of its own: what is asked before it, and what is kept of it. */
export type Operating = Operation & {
  /** Asked where there is a terminal and no `--yes`: `Rebuild jobs?` */
  readonly question: string;
};

/**
 * Asks, records who does what and why, and only then lets the change be made. Throws, with nothing done, where the
 * answer is no, a reason is missing, or the record can't be written. A command deals with `--dry-run` before it calls.
 *
 * @example
 * const context = await operate(side, config, options, {
 *   question: 'Pause notifier?', operation: 'group.pause', target: 'notifier', parameters: {},
 * });
 * await pauseGroup(side, context);
 *
 * @returns the context of the change: its reason, its actor, and the record as the causation of its events
 */
export async function operate(
  side: Pick<WriteSide, 'commands'>,
  config: Config,
  options: ChangeOptions,
  { question, ...operation }: Operating,
): Promise<CommandContext & { readonly reason: string; readonly causation: string }> {
  await agreed(question, options);
  const { reason = '' } = options;
  const context = { ...contextOf(config, options), reason };
  return { ...context, causation: await record(side, context, operation) };
}

/** Writes the record alone. Throws where it can't be written. @returns its id */
export async function record(
  { commands }: Pick<WriteSide, 'commands'>,
  context: CommandContext,
  operation: Operation,
): Promise<string> {
  const recorded = await recordOperation(commands, context, operation);
  if (recorded.kind === 'refused') throw new RefusedError(recorded.refusal.code, recorded.refusal.detail);
  if (recorded.kind !== 'done') throw new Error('This was done before.');
  return recorded.body.id;
}
