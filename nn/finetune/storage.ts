/**
 * Frozen weights held in fewer bytes: in bf16 or f16, half of f32, or in 8-bit integers, a quarter. The graph widens a
 * matrix to f32 where it multiplies by it, and a row of an embedding where it is looked up; what is trained stays f32.
 *
 * 8-bit weights are symmetric: w ≈ scale·q, with q from −127 to 127 and a scale for every output of the product (for
 * every row of an embedding), largest |w| / 127, as in LLM.int8 (Dettmers et al., 2022) without its outliers.
 * A DequantizeLinear costs a product of 256 rows by [1024, 1024] some 6 % of its time, Cast and Mul twice that.
 * `passes/widen.ts` sees to it that one widened matrix is alive at a time.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { DATA_TYPE } from "../onnx/datatype.ts";
import type { Graph, Node, ValueInfo } from "../onnx/graph.ts";
import { intAttribute } from "../onnx/shapes.ts";
import { fromF32 } from "../weights/convert.ts";
import { quantise, scalesOf } from "./quantise.ts";

export type Storage = "bf16" | "f16" | "int8";

const F32 = { to: DATA_TYPE.f32 };

export const scaleName = (weight: string): string => `${weight}.scale`;

/** The model with its frozen f32 matrices stored so; vectors stay f32, they are too few to matter. */
export function storeFrozen<M extends Model>(model: M, storage: Storage): M {
  const frozen = new Set(model.frozen);
  const stored = model.graph.inputs.filter(
    ({ name, dtype, shape }) => frozen.has(name) && dtype === "f32" && shape.length >= 2,
  );
  const axes = new Map(stored.map((weight) => [weight.name, scaleAxis(model.graph, weight)]));
  const widths = new Map(stored.map(({ name, shape }) => [name, shape[axes.get(name)!]!]));

  const b = new GraphBuilder(model.graph.name);
  for (const { name, dtype, shape } of model.graph.inputs) {
    const width = widths.get(name);
    b.input(name, width === undefined ? dtype : storage === "int8" ? "i8" : storage, shape);
    if (width !== undefined && storage === "int8") b.input(scaleName(name), "f32", [width]);
  }
  for (const [name, tensor] of model.graph.initializers) b.constant(name, tensor);
  b.reserve(model.graph.nodes.flatMap(({ outputs }) => outputs));

  /** Widened matrices, each where it is first wanted. */
  const wide = new Map<string, string>();
  const widened = (name: string): string => {
    const axis = axes.get(name);
    if (axis === undefined) return name;
    const known = wide.get(name);
    if (known) return known;
    const output = b.fresh(`${name}.f32`);
    if (storage === "int8") b.op("DequantizeLinear", [name, scaleName(name)], { axis }, output);
    else b.op("Cast", [name], F32, output);
    wide.set(name, output);
    return output;
  };
  for (const node of model.graph.nodes) {
    if (isLookup(node) && axes.has(node.inputs[0]!)) lookUp(b, node, storage);
    else b.append({ ...node, inputs: node.inputs.map(widened) });
  }
  for (const { name } of model.graph.outputs) b.output(name);

  const owners = new Map(storage === "int8" ? stored.map(({ name }) => [scaleName(name), name]) : []);
  const value = async (name: string, seed: number): Promise<Tensor> => {
    const owner = owners.get(name) ?? name;
    const tensor = await model.initial(owner, seed);
    const axis = axes.get(owner);
    if (axis === undefined) return tensor;
    if (storage !== "int8") return fromF32(tensor, storage);
    const scales = scalesOf(tensor, axis);
    return name === owner ? quantise(tensor, axis, scales) : Tensor.f32([scales.length], scales);
  };
  const names = model.frozen.flatMap((name) =>
    storage === "int8" && axes.has(name) ? [name, scaleName(name)] : [name],
  );
  return { ...model, graph: b.build(), frozen: names, initial: value };
}

/** Rows of a narrow table, widened after they have been looked up: the table may be much larger than they are. */
function lookUp(b: GraphBuilder, node: Node, storage: Storage): void {
  const [table, ids] = node.inputs as [string, string];
  const rows = b.op("Gather", [table, ids], { axis: 0 });
  if (storage !== "int8") {
    b.op("Cast", [rows], F32, node.outputs[0]!);
    return;
  }
  const scales = b.op("Gather", [scaleName(table), ids], { axis: 0 });
  const column = b.op("Reshape", [
    scales,
    b.ints([
      ...b.shape(scales),
      ...b
        .shape(table)
        .slice(1)
        .map(() => 1),
    ]),
  ]);
  b.op("Mul", [b.op("Cast", [rows], F32), column], {}, node.outputs[0]!);
}

const isLookup = (node: Node) => node.op === "Gather" && intAttribute(node, "axis", 0) === 0;

/** The axis of a matrix that counts the outputs of its product, or the rows of its lookup. */
function scaleAxis({ nodes }: Graph, { name, shape }: ValueInfo): number {
  const readers = nodes.filter(({ inputs }) => inputs.includes(name));
  const kept = (node: Node) =>
    (node.op === "Gemm" || node.op === "MatMul" || node.op === "FusedMatMul") &&
    node.inputs[1] === name &&
    intAttribute(node, "transB", 0) === 0;
  return readers.length > 0 && readers.every(kept) ? shape.length - 1 : 0;
}
