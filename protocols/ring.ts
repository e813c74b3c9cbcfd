/** More places than this are given back when nothing waits any more: a burst does not keep its memory. */
const KEPT = 4096;

/** First in, first out, in a ring that doubles when it is full. Constant time, little garbage. */
export class Ring<T> {
  private items: (T | undefined)[] = [];
  private head = 0;
  length = 0;

  push(item: T): void {
    if (this.length === this.items.length) this.grow();
    this.items[(this.head + this.length++) & (this.items.length - 1)] = item;
  }

  peek(): T | undefined {
    return this.length === 0 ? undefined : this.items[this.head];
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.items[this.head];
    this.items[this.head] = undefined;
    this.head = (this.head + 1) & (this.items.length - 1);
    if (--this.length === 0 && this.items.length > KEPT) {
      this.items = [];
      this.head = 0;
    }
    return item;
  }

  private grow(): void {
    const size = Math.max(8, this.items.length * 2);
    const grown = new Array<T | undefined>(size).fill(undefined);
    for (let i = 0; i < this.length; i++) grown[i] = this.items[(this.head + i) & (this.items.length - 1)];
    this.items = grown;
    this.head = 0;
  }
}
