import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { Decision } from '../domain/decision.ts';
import type { DomainEvent } from '../domain/events.ts';
import { agreed, type ChangeOptions, contextOf, RefusedError } from './changes.ts';
import { type WriteSide, withInstallation } from './installation.ts';

/** One way to change things of a kind: the command that does it, and the decision behind it. */
export type Change<B extends object> = {
  /** As a sentence begins: `Cancel`. */
  readonly verb: string;
  /** Of several: `jobs`. */
  readonly plural: string;
  readonly carryOut: (side: WriteSide, context: CommandContext, id: string) => Promise<CommandResult<B>>;
  /** What it would decide now. */
  readonly foresee: (side: WriteSide, id: string) => Promise<Decision<DomainEvent>>;
  /** What became of it, in words. */
  readonly say: (body: B) => string;
};

type Outcome<B> =
  | { readonly kind: 'done'; readonly body: B; readonly position: string }
  | { readonly kind: 'foreseen'; readonly events: readonly string[] }
  | { readonly kind: 'refused'; readonly code: string; readonly detail: string };

/** Asks, then changes each, or says what it would do; the refusal of one does not keep the others from being changed. */
export async function changeEach<B extends object>(
  change: Change<B>,
  ids: readonly string[],
  options: ChangeOptions,
): Promise<void> {
  const what = ids.length === 1 ? ids[0] : `${ids.length} ${change.plural}`;
  await agreed(`${change.verb} ${what}?`, options);
  const refused = await withInstallation(async (side, { config }) => {
    const context = contextOf(config, options);
    let count = 0;
    for (const id of ids) {
      const outcome = await outcomeOf(() =>
        options.dryRun ? dryRun(change, side, id) : done(change, side, context, id),
      );
      if (outcome.kind === 'refused') count++;
      print(outcome, id, change, options);
    }
    return count;
  });
  if (refused > 0 && ids.length > 1)
    throw new Error(`${refused} of ${ids.length} ${change.plural} were refused.`);
  if (refused > 0) process.exitCode = 1;
}

async function outcomeOf<B>(run: () => Promise<Outcome<B>>): Promise<Outcome<B>> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    return { kind: 'refused', code: error.code, detail: error.message };
  }
}

async function done<B extends object>(
  { carryOut }: Change<B>,
  side: WriteSide,
  context: CommandContext,
  id: string,
): Promise<Outcome<B>> {
  const result = await carryOut(side, context, id);
  if (result.kind === 'refused') return { kind: 'refused', ...result.refusal };
  if (result.kind !== 'done') throw new Error('This was done before.');
  return { kind: 'done', body: result.body, position: result.position };
}

async function dryRun<B extends object>(
  { foresee }: Change<B>,
  side: WriteSide,
  id: string,
): Promise<Outcome<B>> {
  const decision = await foresee(side, id);
  if (!decision.ok) return { kind: 'refused', ...decision.refusal };
  return { kind: 'foreseen', events: decision.events.map(({ type }) => type) };
}

function print<B extends object>(
  outcome: Outcome<B>,
  id: string,
  change: Change<B>,
  { json }: ChangeOptions,
): void {
  const { record, text } = shown(outcome, id, change);
  if (json) console.log(JSON.stringify(record));
  else if (outcome.kind === 'refused') console.error(`${id}: ${text}`);
  else console.log(`${id}: ${text}`);
}

/** For programs, and for people. */
function shown<B extends object>(
  outcome: Outcome<B>,
  id: string,
  { say }: Change<B>,
): { readonly record: object; readonly text: string } {
  switch (outcome.kind) {
    case 'done':
      return { record: { ...outcome.body, position: outcome.position }, text: say(outcome.body) };
    case 'foreseen': {
      const { events } = outcome;
      const text = `would write ${events.join(', ') || 'nothing, as it is so already'}`;
      return { record: { id, dryRun: true, events }, text };
    }
    case 'refused': {
      const { code, detail } = outcome;
      return { record: { id, error: { code, detail } }, text: detail };
    }
  }
}
