import { expect, test } from "bun:test";
import { type Tombstone, Tombstones } from "../../runtime/tombstones.ts";

const stone = (id: string, at: number, more: Partial<Tombstone> = {}): Tombstone => ({
  ...{ id, name: id, incarnation: 1, generation: 1, how: "lost", reason: "it broke", at },
  ...{ addresses: [], machine: undefined, ...more },
});
const HOUR = 3_600_000;

test("the last of a node is kept, the first to leave first", () => {
  const stones = new Tombstones();
  stones.add(stone("a", 0));
  stones.add(stone("b", 1));
  stones.add(stone("a", 2, { incarnation: 7 }));
  expect(stones.list(3).map(({ id }) => id)).toEqual(["b", "a"]);
  expect(stones.find("a", 3)!.incarnation).toBe(7);
});

test("an hour later it is forgotten", () => {
  const stones = new Tombstones();
  stones.add(stone("a", 0));
  stones.add(stone("b", 1000));
  expect(stones.find("a", HOUR - 1)).toBeDefined();
  expect(stones.find("a", HOUR)).toBeUndefined();
  expect(stones.list(HOUR).map(({ id }) => id)).toEqual(["b"]);
});

test("their number is bounded; the oldest go", () => {
  const stones = new Tombstones();
  for (let i = 0; i < 5000; i++) stones.add(stone(`n${i}`, i));
  expect(stones.list(5000)).toHaveLength(1024);
  expect(stones.list(5000)[0]!.id).toBe("n3976");
});
