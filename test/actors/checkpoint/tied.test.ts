/** A checkpoint has of tied parameters one; stages that hold the other one go on with all that belongs to it. */

import { expect, test } from "bun:test";
import { checkpointValues } from "../../../actors/checkpoint/contents.ts";
import { initialState } from "../../../actors/train.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { motley } from "../../nn/motley.ts";

test("a tied parameter on another stage has the moments of the one that it is tied to", async () => {
  const model = motley();
  const tensor = (value: number) => Tensor.f32([256, 6], new Float32Array(256 * 6).fill(value));
  const checkpoint = {
    parameters: new Map([["embedding", tensor(1)]]),
    optimizer: new Map([
      ["m.embedding", tensor(2)],
      ["v.embedding", tensor(3)],
    ]),
  };
  const optimizer = { ...DEFAULT_ADAMW, warmup: 1, steps: 2 };
  const state = await initialState(model, 7, checkpointValues(checkpoint, model, optimizer));
  expect(state.head?.f32()[0]).toBe(1);
  expect(state["m.head"]?.f32()[0]).toBe(2);
  expect(state["v.head"]?.f32()[0]).toBe(3);
  // Nothing is kept of those that the checkpoint has nothing of.
  expect(state["m.w0"]).toBeUndefined();
});
