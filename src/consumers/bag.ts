/** Something that may be in one bag: its place there, kept by the bag. */
export type Baggable = { place: number };

/** The place of what is in no bag. */
export const NOWHERE = -1;

/**
 * What comes and goes by the tens of thousands a second, in no order.
 *
 * A `Set` moves into another table every so many additions, and V8 links each table that it left to the next one, for
 * whoever still iterates: once one of them has grown old, all of them do, with everything that was in them when they were
 * left. A fifth of what jobs had made was kept that way, and moved twice. A bag leaves nothing behind.
 */
export class Bag<T extends Baggable> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** @param item is in no bag */
  add(item: T): void {
    item.place = this.#items.length;
    this.#items.push(item);
  }

  /** Nothing happens where it is not in the bag. */
  delete(item: T): void {
    if (this.#items[item.place] !== item) return;
    const last = this.#items.pop() as T;
    if (last !== item) {
      this.#items[item.place] = last;
      last.place = item.place;
    }
    item.place = NOWHERE;
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items.values();
  }
}
