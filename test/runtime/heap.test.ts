import { expect, test } from "bun:test";
import { Heap, type HeapItem } from "../../runtime/heap.ts";
import { seededRandom } from "../../runtime/random.ts";

interface Item extends HeapItem {
  readonly key: number;
}

test("a heap gives its items in order whatever is taken out of its middle", () => {
  const random = seededRandom(7);
  for (let round = 0; round < 50; round++) {
    const heap = new Heap<Item>((a, b) => a.key < b.key);
    const keys = Array.from({ length: 100 }, (_, i) => i);
    const kept = new Map<number, Item>();
    while (keys.length > 0) {
      const [key] = keys.splice(random.integer(keys.length), 1);
      const item = { key: key!, place: -1 };
      heap.push(item);
      kept.set(item.key, item);
      if (random.next() < 0.4) {
        const gone = [...kept.values()][random.integer(kept.size)]!;
        expect(heap.remove(gone)).toBe(true);
        expect(heap.remove(gone)).toBe(false);
        kept.delete(gone.key);
      }
    }
    expect(heap.size).toBe(kept.size);
    const order: number[] = [];
    for (let first = heap.first; first; first = heap.first) {
      heap.remove(first);
      order.push(first.key);
    }
    expect(order).toEqual([...kept.keys()].sort((a, b) => a - b));
  }
});
