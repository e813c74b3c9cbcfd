/** What a stage has sent: of how many steps it is kept, and in what memory. */

import { expect, test } from "bun:test";
import type { Slip } from "../../../actors/inbox.ts";
import { Outbox } from "../../../actors/stage/outbox.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const slip = (step: number, microBatch = 0): Slip => {
  return { generation: 1, phase: "train", step, microBatch, value: "x" };
};
const tensor = Tensor.f32([2], [1, 2]);
const stepsOf = (outbox: Outbox) => [...outbox.all()].map((sent) => sent.slip.step);

/** Two tensors are sent in a step. */
function sends(outbox: Outbox, step: number, most: number): Uint8Array[] {
  outbox.begin(step, most);
  return [0, 1].map((microBatch) => outbox.add([1], slip(step, microBatch), tensor, null).tensor.bytes);
}

test("steps are kept until nobody makes them again, and their memory is used for later ones", () => {
  const outbox = new Outbox();
  expect(outbox.first).toBe(null);
  const rooms = [3, 4, 5].map((step) => sends(outbox, step, 100));
  expect(outbox.first).toBe(3);
  expect(outbox.bytes).toBe(48);
  outbox.forgetBefore(5);
  expect(outbox.first).toBe(5);
  expect(stepsOf(outbox)).toEqual([5, 5]);
  const again = [6, 7].flatMap((step) => sends(outbox, step, 100));
  expect(new Set(again)).toEqual(new Set(rooms.slice(0, 2).flat()));
  expect(sends(outbox, 8, 100).some((room) => rooms.flat().includes(room))).toBe(false);
});

test("where steps before it take more memory than they may, the one that begins is the first", () => {
  const outbox = new Outbox();
  for (const step of [0, 1, 2]) sends(outbox, step, 32);
  expect([outbox.first, stepsOf(outbox).length]).toEqual([0, 6]);
  sends(outbox, 3, 32);
  expect([outbox.first, outbox.bytes]).toEqual([3, 16]);
  // What is forgotten later is gone already.
  outbox.forgetBefore(2);
  expect(outbox.first).toBe(3);
});

test("memory that is on its way is not written over", () => {
  const outbox = new Outbox();
  outbox.begin(0, 0);
  const sent = outbox.add([1], slip(0), tensor, null);
  sent.underWay++;
  outbox.begin(1, 0);
  expect(outbox.add([1], slip(1), tensor, null).tensor.bytes).not.toBe(sent.tensor.bytes);
});
