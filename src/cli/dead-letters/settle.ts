import { byLane, foreseeSettling, requestSettling } from '../../app/settling.ts';
import type { JobAccepted } from '../../commands/jobs/requests.ts';
import type { Settling, SettlingPayload } from '../../domain/dead-letters.ts';
import { parseStreamId } from '../../domain/ids.ts';
import type { LetterFilter } from '../../projections/dead-letters/queries.ts';
import { agreed, type ChangeOptions, checked, contextOf, RefusedError } from '../changes.ts';
import { UsageError } from '../exit.ts';
import { type WriteSide, withInstallation } from '../installation.ts';
import { expectSuccess, watchJob } from '../watching/watch-job.ts';
import { type FilterOptions, filterOf } from './filter.ts';

type Options = ChangeOptions &
  FilterOptions & { readonly all?: boolean; readonly rate: number; readonly follow?: boolean };

/** The job that goes through them takes no more. */
const MOST_IDS = 1_000;
/** Of a dry run, in words. */
const SAMPLE = 10;
const WORDS = {
  redrive: { verb: 'Redrive', done: 'redriven' },
  discard: { verb: 'Discard', done: 'discarded' },
} as const;

/**
 * `millrace dead-letters redrive`, `millrace dead-letters discard`: a job goes through the letters, so that it goes on
 * when this process ends.
 */
export function settleLetters(settling: Settling) {
  return async (ids: readonly string[], options: Options): Promise<void> => {
    const asked = chosen(ids, options);
    const { verb } = WORDS[settling];
    checked(`${verb} dead letters?`, options);
    await withInstallation(async (side, base) => {
      const filter = await byLane(side.db, side.hmac, asked);
      if (options.dryRun) return foresee(side, settling, filter, options);
      if (!options.yes) {
        const { count } = await foreseeSettling(side, filter, 1);
        await agreed(`${verb} ${letters(count)}?`, options);
      }
      const { reason = '' } = options;
      const context = { ...contextOf(base.config, options), reason };
      const { rate } = options;
      const result = await requestSettling(side.commands, context, settling, { filter, rate });
      if (result.kind === 'refused') throw new RefusedError(result.refusal.code, result.refusal.detail);
      if (result.kind !== 'done') throw new Error('This was done before.');
      say(result.body, result.position, options);
      if (!options.follow) return;
      const { id } = result.body;
      const job = await watchJob({ side, base, id, json: options.json ?? false });
      if (!options.json && job.result !== undefined) console.log(JSON.stringify(job.result));
      expectSuccess(job);
    });
  };
}

/** An empty filter is more often a mistake than a wish, so all letters have to be asked for. */
function chosen(ids: readonly string[], options: Options): SettlingPayload['filter'] {
  if (ids.length > MOST_IDS) {
    throw new UsageError(`At most ${MOST_IDS} ids at once: give fewer, or something that narrows them.`);
  }
  for (const id of ids) if (!parseStreamId(id, 'job')) throw new UsageError(`${id} is no id of a job.`);
  const filter = { ...filterOf(options), ...(ids.length > 0 ? { ids: [...ids] } : {}) };
  const named = Object.keys(filter).length > 0;
  if (named && options.all)
    throw new UsageError('--all goes without ids and without anything that narrows it.');
  if (!named && !options.all) throw new UsageError('Say which: ids, something that narrows them, or --all.');
  return filter;
}

async function foresee(
  side: WriteSide,
  settling: Settling,
  filter: LetterFilter,
  { json }: Options,
): Promise<void> {
  const { count, ids } = await foreseeSettling(side, filter, SAMPLE);
  if (json) {
    const sample = ids.map((id) => ({ id, status: 'dead' }));
    console.log(JSON.stringify({ dryRun: true, count, sample }));
    return;
  }
  console.log(`${letters(count)} would be ${WORDS[settling].done}${count === 0 ? '.' : ':'}`);
  for (const id of ids) console.log(`  ${id}`);
  if (count > ids.length) console.log(`  … and ${count - ids.length} more`);
}

function say(body: JobAccepted, position: string, { json, follow }: Options): void {
  if (json) console.log(JSON.stringify({ ...body, position }));
  else if (follow) console.log(`${body.id} goes through them.`);
  else console.log(`${body.id} goes through them; to follow it: millrace jobs watch ${body.id}`);
}

function letters(count: number): string {
  return count === 1 ? '1 dead letter' : `${count} dead letters`;
}
