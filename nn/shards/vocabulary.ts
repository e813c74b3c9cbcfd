/**
 * The cross-entropy of scores that are cut by classes (Megatron-LM's parallel cross-entropy): every rank sums up the
 * exponentials of its own scores, and picks those targets' scores that are its own. What ranks send is a number or two
 * of each row, instead of the scores, which in a language model are its largest value by far.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { GraphError, type Node } from "../onnx/graph.ts";
import { describe } from "../onnx/shapes.ts";
import { type Layout, type Part, part, SUM, WHOLE } from "./layout.ts";
import type { Value } from "./program.ts";
import type { Labels } from "./units.ts";
import type { Values } from "./values.ts";

/** Whether a node is a loss that can be taken of scores cut along their classes. */
export function takesClasses({ op, inputs, outputs, attributes }: Node, scores: Value | undefined): boolean {
  return (
    op === "SoftmaxCrossEntropyLoss" &&
    (scores?.layout as Part | undefined)?.axis === 1 &&
    scores!.type.shape.length === 2 &&
    !inputs[2] &&
    outputs.length === 1 &&
    !("ignore_index" in attributes) &&
    (attributes.reduction ?? "mean") === "mean"
  );
}

/**
 * Writes the loss of a node that `takesClasses`.
 * @param ranks labels of an axis of which each rank has one index.
 */
export function classLoss(node: Node, scores: Value, targets: Value, values: Values, ranks: Labels): void {
  const at = scores.layout;
  if (at.kind !== "part") throw new GraphError(`${describe(node)}: its scores are not cut`);
  const [loss] = node.outputs as [string];
  const { dtype, shape } = scores.type;
  const [rows] = shape as [number, number];
  const add = (
    [op, ...stems]: readonly [string, ...string[]],
    inputs: readonly Value[],
    shape: readonly number[],
    layout: Layout,
    attributes: Node["attributes"] = {},
    how: { alike?: boolean; lookup?: Part } = {},
  ): Value[] => {
    const outputs = stems.map((stem) => (stem === loss ? loss : values.fresh(`${loss}.${stem}`)));
    outputs.forEach((name, i) => {
      if (name !== loss) values.types.set(name, { dtype: how.lookup && i === 0 ? "i64" : dtype, shape });
    });
    const made = { op, domain: "", inputs: [], outputs, attributes };
    values.step(made, inputs, outputs.map(() => layout), { alike: false, ...how }); // biome-ignore format: one line
    return outputs.map((name) => values.of(name)!);
  };
  const axes = values.constant(values.fresh(`${loss}.axes`), Tensor.i64([1], [1]));
  const alike = { alike: true };

  const own = add(
    ["ReduceLogSumExp", "own_exponents"],
    [scores, axes],
    [rows, ranks.ids.length],
    part(1, ranks),
    {
      keepdims: 1,
    },
  )[0]!;
  const all = values.whole(own, false);
  const exponents = add(
    ["ReduceLogSumExp", "exponents"],
    [all, axes],
    [rows, 1],
    WHOLE,
    { keepdims: 1 },
    alike,
  )[0]!;

  const places = { lookup: at };
  const whole = values.whole(targets, true);
  const [index, mine] = add(["Gather", "place", "mine"], [whole], [rows, 1], WHOLE, {}, places) as [
    Value,
    Value,
  ];
  const found = add(["GatherElements", "found"], [scores, index], [rows, 1], WHOLE, { axis: 1 })[0]!;
  const summand = add(["Mul", "picked"], [found, mine], [rows, 1], SUM)[0]!;
  const picked = values.move("reduce", summand, WHOLE);

  const each = add(["Sub", "each"], [exponents, picked], [rows, 1], WHOLE, {}, alike)[0]!;
  add(["ReduceMean", loss], [each], [], WHOLE, { keepdims: 0 }, alike);
}
