import { expect, test } from "bun:test";
import { Ring } from "../../protocols/ring.ts";
import { seededRandom } from "../../runtime/random.ts";

test("a ring is first in, first out, through any growth and wrapping", () => {
  const random = seededRandom(5);
  const ring = new Ring<number>();
  const model: number[] = [];
  for (let i = 0; i < 5000; i++) {
    if (random.next() < 0.55) {
      ring.push(i);
      model.push(i);
    } else expect(ring.shift()).toBe(model.shift()!);
    expect(ring.length).toBe(model.length);
    expect(ring.peek()).toBe(model[0]!);
  }
});

test("it works on after a burst whose memory it has given back", () => {
  const ring = new Ring<number>();
  for (const size of [100_000, 3, 100_000]) {
    for (let i = 0; i < size; i++) ring.push(i);
    for (let i = 0; i < size; i++) expect(ring.shift()).toBe(i);
    expect(ring.shift()).toBeUndefined();
    expect((ring as unknown as { items: unknown[] }).items.length).toBeLessThan(8192);
  }
});
