/**
 * A binary heap whose items know their place in it, so that any of them can be taken out again in logarithmic
 * time: what a clock needs, most of whose timers are cleared before they fire.
 */

/** What a heap holds: the heap writes down where. */
export interface HeapItem {
  /** Place in the heap; -1 outside of it. The heap's to write. */
  place: number;
}

export class Heap<T extends HeapItem> {
  private readonly items: T[] = [];
  private readonly before: (a: T, b: T) => boolean;

  /** @param before a strict total order: of two different items one is before the other. */
  constructor(before: (a: T, b: T) => boolean) {
    this.before = before;
  }

  get size(): number {
    return this.items.length;
  }

  /** The first item, left where it is. */
  get first(): T | undefined {
    return this.items[0];
  }

  push(item: T): void {
    this.items.push(item);
    this.rise(item, this.items.length - 1);
  }

  /** Takes an item out; false when it is in no heap. */
  remove(item: T): boolean {
    const { place } = item;
    if (place < 0) return false;
    item.place = -1;
    const last = this.items.pop()!;
    if (last === item) return true;
    const parent = this.items[(place - 1) >> 1];
    if (place > 0 && this.before(last, parent!)) this.rise(last, place);
    else this.sink(last, place);
    return true;
  }

  private rise(item: T, place: number): void {
    const { items } = this;
    let at = place;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = items[up]!;
      if (!this.before(item, parent)) break;
      items[at] = parent;
      parent.place = at;
      at = up;
    }
    items[at] = item;
    item.place = at;
  }

  private sink(item: T, place: number): void {
    const { items } = this;
    let at = place;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= items.length) break;
      if (down + 1 < items.length && this.before(items[down + 1]!, items[down]!)) down++;
      const child = items[down]!;
      if (!this.before(child, item)) break;
      items[at] = child;
      child.place = at;
      at = down;
    }
    items[at] = item;
    item.place = at;
  }
}
