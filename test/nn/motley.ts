/**
 * A small model that has one of everything a model may have: a frozen matrix, running statistics, dropout, a tied
 * embedding and head, and a mask that is made from data and wanted in every layer.
 */

import type { Model } from "../../nn/model.ts";
import { uniformTensor } from "../../nn/models/init.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { float, type ValueInfo } from "../../nn/onnx/graph.ts";
import { elements, Tensor } from "../../protocols/tensor.ts";

export const MOTLEY = { context: 8, rows: 2, width: 6, classes: 256 };

export interface MotleyOptions {
  /** Names of parameters to freeze. */
  readonly freeze?: readonly string[];
}

/** `ids` i64 [8, 2] and `targets` i64 [16] in. */
export function motley({ freeze = [] }: MotleyOptions = {}): Model {
  const { context, rows, width: d, classes } = MOTLEY;
  const count = context * rows;
  const b = new GraphBuilder("motley");
  b.input("ids", "i64", [context, rows]);
  b.input("targets", "i64", [count]);
  const held: ValueInfo[] = [
    ["embedding", [classes, d]],
    ["w0", [d, d]],
    ["gamma", [d]],
    ["beta", [d]],
    ["mean", [d]],
    ["variance", [d]],
    ["basis", [d, d]],
    ["w1", [d, d]],
    ["w2", [d, d]],
    ["head", [classes, d]],
  ].map(([name, shape]) => ({ name: name as string, dtype: "f32", shape: shape as number[] }));
  for (const { name, dtype, shape } of held) b.input(name, dtype, shape);

  const mask = b.op("Cast", [b.op("Greater", ["ids", b.constant("limit", Tensor.i64([], [64]))])], { to: 1 });
  const column = b.op("Reshape", [mask, b.ints([count, 1])]);
  const product = (x: string, w: string, name: string) => b.op("Gemm", [x, w], {}, name);
  let x = b.op("Reshape", [b.op("Gather", ["embedding", "ids"]), b.ints([count, d])], {}, "embedded");
  x = product(x, "w0", "first");
  [x] = b.node("BatchNormalization", [x, "gamma", "beta", "mean", "variance"], {
    attributes: { training_mode: 1, momentum: float(0.8) },
    outputs: ["normal", "next_mean", "next_variance"],
  }) as [string];
  x = b.op("Mul", [product(x, "basis", "second"), column]);
  x = b.op("Tanh", [product(x, "w1", "third")]);
  [x] = b.node("Dropout", [x, b.scalar(0.25), b.constant("yes", new Tensor("bool", [], Uint8Array.of(1)))], {
    outputs: ["dropped"],
  }) as [string];
  x = b.op("Add", [product(x, "w2", "fourth"), column]);
  const logits = b.op("Gemm", [x, "head"], { transB: 1 }, "logits");
  b.op("SoftmaxCrossEntropyLoss", [logits, "targets"], { reduction: "mean" }, "loss");
  for (const name of ["loss", "next_mean", "next_variance"]) b.output(name);

  const still = new Set(["basis", ...freeze]);
  const statistics = { mean: "next_mean", variance: "next_variance" };
  const own = held.map(({ name }) => name).filter((name) => !Object.hasOwn(statistics, name));
  return {
    name: "motley",
    graph: b.build(),
    parameters: own.filter((name) => !still.has(name)),
    frozen: own.filter((name) => still.has(name)),
    statistics,
    ties: still.has("embedding") ? {} : { head: "embedding" },
    prediction: "logits",
    initial: (name, seed) => {
      const { shape } = held.find((info) => info.name === name)!;
      const ones = ["gamma", "variance"].includes(name);
      if (shape.length === 1) return Tensor.f32(shape, new Float32Array(elements(shape)).fill(ones ? 1 : 0));
      return uniformTensor(seed, name === "head" ? "embedding" : name, shape, 0.4);
    },
  };
}
