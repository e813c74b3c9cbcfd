import { expect, test } from "bun:test";
import { EventQueue } from "../../../../actors/scheduler/simulate/queue.ts";
import { seededRandom } from "../../../../runtime/random.ts";

test("events come by time, those of one time by code, whenever they were put in", () => {
  const random = seededRandom(5);
  const queue = new EventQueue(1);
  const held: (readonly [number, number])[] = [];
  const first = () => held.toSorted(([a, i], [b, j]) => a - b || i - j)[0]!;
  for (let i = 0; i < 400; i++) {
    // Fuller at first, emptier later; few different times.
    if (held.length > 0 && random.next() < i / 400) {
      expect([queue.firstMs, queue.firstCode]).toEqual([...first()]);
      held.splice(held.indexOf(first()), 1);
      queue.pop();
    } else {
      const event = [random.integer(20), i % 2 === 0 ? i : 400 - i] as const;
      held.push(event);
      queue.push(...event);
    }
    expect(queue.size).toBe(held.length);
  }
});
