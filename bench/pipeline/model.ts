/**
 * The model of the stand-in: a chain of square matrices, one for each chunk, small enough that what is measured is
 * neither arithmetic nor bytes. With real kernels it would train; here they sleep instead.
 */

import type { Feed } from "../../actors/data/feed.ts";
import type { Model } from "../../nn/model.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { float } from "../../nn/onnx/graph.ts";
import { Tensor } from "../../protocols/tensor.ts";

/** Rows of a micro-batch and width of an activation: 4 KiB travel between neighbours. */
export const ROWS = 8;
export const WIDTH = 128;

export const LOSS = "loss";
export const activationName = (chunk: number): string => `activation.${chunk}`;
export const parameterName = (chunk: number): string => `weight.${chunk}`;

/** One segment for each chunk. */
export function chainModel(chunks: number): Model {
  const b = new GraphBuilder("chain");
  let x = b.input("samples", "f32", [ROWS, WIDTH]);
  const parameters: string[] = [];
  for (let chunk = 0; chunk < chunks; chunk++) {
    const weight = b.input(parameterName(chunk), "f32", [WIDTH, WIDTH]);
    const bias = b.input(`bias.${chunk}`, "f32", [WIDTH]);
    parameters.push(weight, bias);
    const attributes = { alpha: float(1), beta: float(1), transA: 0, transB: 0 };
    x = b.op("Gemm", [x, weight, bias], attributes, activationName(chunk));
  }
  b.output(b.op("ReduceMean", [x], { keepdims: 0 }, LOSS));
  return {
    ...{
      name: "chain",
      graph: b.build(),
      parameters,
      frozen: [],
      statistics: {},
      ties: {},
      prediction: null,
    },
    initial: (name) => Tensor.zeros("f32", name.startsWith("bias") ? [WIDTH] : [WIDTH, WIDTH]),
  };
}

/** The same samples again and again. */
export const chainFeed: Feed = {
  values: [{ name: "samples", dtype: "f32", shape: [ROWS, WIDTH] }],
  training: () => ({ samples: Tensor.zeros("f32", [ROWS, WIDTH]) }),
  validationCount: 0,
  validation: () => ({}),
};
