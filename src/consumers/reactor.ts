import { commitReactions, type Reaction, type ReactionDeps } from '../commands/reactions.ts';
import type { RawEvent } from '../domain/event.ts';
import type { DomainEventType } from '../domain/events.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { OrderedGroup } from '../eventstore/types.ts';
import { cursorText, readCursor } from './reactor-cursor.ts';

/** Reads the log in order, and says which job follows from an event. */
export type Reactor = {
  /** Stored in leases and in the key of its cursor: an identifier for life. */
  readonly name: string;
  /** Types of the events that anything may follow from. */
  readonly reactsTo: readonly DomainEventType[];
  /** Pure, and fast for events that it has no use for: it sees all of them. */
  readonly react: (event: RawEvent) => Reaction | undefined;
};

/** Jobs that share a commit: large results make large commits. */
const MOST_AT_ONCE = 20;
/** Events without a reaction are read again after a restart, up to as many or as old as this: a commit less for each. */
const MOVE_EVERY_EVENTS = 1_000;
const MOVE_EVERY_MS = 5_000;

/** Where the cursor in Redis stands, as this process left it. */
type Cursor = { readonly text: string; readonly seq: number; readonly movedAt: number };

/**
 * A reactor as an ordered group. Its checkpoint is a cursor in Redis, in the partition's slot, and moves in the commit
 * of what it does: exactly once, with no second store. Between reactions it moves now and then.
 */
export function createReactorGroup(
  deps: ReactionDeps & { readonly store: Pick<OpenEventStore, 'keys' | 'writer'> },
  reactor: Reactor,
): OrderedGroup {
  const { name } = reactor;
  const cursors = new Map<number, Cursor>();

  async function move(
    partition: number,
    token: number,
    to: RawEvent,
    reactions: readonly Reaction[],
  ): Promise<void> {
    const from = cursors.get(partition);
    if (!from) throw new Error(`${name} has not opened partition ${partition}`);
    const text = cursorText({ ...to, eventId: to.id });
    const lease = { group: name, token };
    await commitReactions(
      deps,
      { partition, lease, cursor: { reactor: name, from: from.text, to: text } },
      reactions,
    );
    cursors.set(partition, { text, seq: to.seq, movedAt: deps.now().getTime() });
  }

  function isDue(partition: number, { seq }: RawEvent): boolean {
    const cursor = cursors.get(partition);
    if (!cursor) return true;
    return seq - cursor.seq >= MOVE_EVERY_EVENTS || deps.now().getTime() - cursor.movedAt >= MOVE_EVERY_MS;
  }

  return {
    name,
    async open(partition) {
      const text = (await deps.store.writer.redis.get(keyOf(deps.store, partition, name))) ?? '';
      const checkpoint = readCursor(text);
      cursors.set(partition, { text, seq: checkpoint.seq, movedAt: deps.now().getTime() });
      return checkpoint;
    },
    async apply(partition, from, batch, token) {
      const events = batch.filter(({ seq }) => seq > from.seq);
      const last = events.at(-1);
      if (!last) return from;
      const found = events.flatMap((event) => {
        const reaction = reactor.react(event);
        return reaction ? [{ event, reaction }] : [];
      });
      for (let at = 0; at < found.length; at += MOST_AT_ONCE) {
        const part = found.slice(at, at + MOST_AT_ONCE);
        const isLast = at + MOST_AT_ONCE >= found.length;
        const to = isLast ? last : (part.at(-1)?.event ?? last);
        await move(
          partition,
          token,
          to,
          part.map(({ reaction }) => reaction),
        );
      }
      if (found.length === 0 && isDue(partition, last)) await move(partition, token, last, []);
      return { epoch: last.epoch, seq: last.seq, eventId: last.id };
    },
  };
}

function keyOf({ keys }: Pick<OpenEventStore, 'keys'>, partition: number, name: string): string {
  const names = keys[partition];
  if (!names) throw new Error(`there is no partition ${partition}`);
  return names.cursor(name);
}
