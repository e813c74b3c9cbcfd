/** Copies of what steps leave: they are copies, they are given up, and their memory is used again. */

import { expect, test } from "bun:test";
import { Copies } from "../../../actors/recovery/copies.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const values = (...numbers: number[]): [string, Tensor][] =>
  numbers.map((number, i) => [`w${i}`, Tensor.f32([2], [number, -number])]);

test("a copy is as the values were when it was made", () => {
  const copies = new Copies();
  const own = values(1, 2);
  copies.put(4, own);
  own[0]![1].f32().fill(9);
  expect([...copies.at(4)!.get("w0")!.f32()]).toEqual([1, -1]);
  expect(copies.at(4)!.get("w1")).toMatchObject({ dtype: "f32", shape: [2] });
  expect(copies.at(3)).toBeUndefined();
});

test("a copy may come in pieces, and a piece a second time", () => {
  const copies = new Copies();
  const [first, second] = values(1, 2);
  copies.put(0, [first!]);
  copies.put(0, [second!]);
  copies.put(0, [["w0", Tensor.f32([2], [5, 6])]]);
  expect([...copies.at(0)!].map(([name, tensor]) => [name, ...tensor.f32()])).toEqual([
    ["w0", 5, 6],
    ["w1", 2, -2],
  ]);
});

test("copies before a step are given up, those of it and behind it remain", () => {
  const copies = new Copies();
  for (const step of [1, 2, 3, 4]) copies.put(step, values(step));
  copies.forgetBefore(3);
  expect([1, 2, 3, 4].map((step) => copies.at(step)?.get("w0")?.f32()[0])).toEqual([
    undefined,
    undefined,
    3,
    4,
  ]);
});

test("over many steps there are no more than two lots of memory, whichever is kept for how long", () => {
  const copies = new Copies();
  const memory = new Set<ArrayBufferLike>();
  let kept = -1;
  for (let step = 0; step < 300; step++) {
    copies.put(step, values(step, step + 0.5));
    for (const { bytes } of copies.at(step)!.values()) memory.add(bytes.buffer);
    // A slow line takes a few steps for each copy, and others are not made meanwhile.
    if (step % 3 === 0) {
      copies.forgetBefore(step);
      kept = step;
    } else copies.forgetBefore(step);
    expect(copies.at(kept)?.get("w0")?.f32()[0] ?? step).toBe(copies.at(kept) ? kept : step);
  }
  expect(memory.size).toBeLessThanOrEqual(2 * 2);
});

test("memory is used again for values of its size alone", () => {
  const copies = new Copies();
  copies.put(0, [["w", Tensor.f32([4], [1, 2, 3, 4])]]);
  const { buffer } = copies.at(0)!.get("w")!.bytes;
  copies.forgetBefore(1);
  copies.put(1, [["w", Tensor.f32([2], [5, 6])]]);
  expect(copies.at(1)!.get("w")!.bytes.buffer).not.toBe(buffer);
  copies.put(2, [["w", Tensor.f32([4], [7, 7, 7, 7])]]);
  expect(copies.at(2)!.get("w")!.bytes.buffer).toBe(buffer);
  expect([...copies.at(1)!.get("w")!.f32()]).toEqual([5, 6]);
});
