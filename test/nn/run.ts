/** Runs a graph once on an engine, and says what a graph's inputs may be filled with. */

import type { Engine } from "../../nn/engine/engine.ts";
import { float, type Graph, type Node } from "../../nn/onnx/graph.ts";
import { inferShapes } from "../../nn/onnx/shapes.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Chance } from "./engine/operator-cases.ts";

export type Values = Readonly<Record<string, Tensor>>;

/** Outputs of the graph, copied; everything is released. Inputs that are not given are zero. */
export async function runGraph(
  engine: Engine,
  graph: Graph,
  values: Values,
): Promise<Record<string, Tensor>> {
  const executable = await engine.compile(graph);
  const allocate = (infos: Graph["inputs"]) =>
    Object.fromEntries(infos.map(({ name, dtype, shape }) => [name, engine.allocate(dtype, shape)]));
  const [feeds, fetches] = [allocate(graph.inputs), allocate(graph.outputs)];
  for (const [name, feed] of Object.entries(feeds))
    if (values[name]) feed.tensor.bytes.set(values[name].bytes);
  const binding = executable.bind(feeds, fetches);
  await binding.run();
  const results = Object.entries(fetches).map(([name, { tensor }]): [string, Tensor] => [
    name,
    new Tensor(tensor.dtype, tensor.shape, Uint8Array.from(tensor.bytes)),
  ]);
  for (const held of [binding, executable, ...Object.values(feeds), ...Object.values(fetches)])
    held.release();
  return Object.fromEntries(results);
}

/** Values for the graph's inputs: floats around zero, integers below `classes`. */
export function randomValues(graph: Graph, chance: Chance, classes: number): Record<string, Tensor> {
  return Object.fromEntries(
    graph.inputs.map(({ name, dtype, shape }) => [
      name,
      dtype === "i64" ? chance.i64(shape, 0, classes - 1) : chance.f32(shape, -0.5, 0.5),
    ]),
  );
}

/** An f32 tensor as f64. */
export const widened = (tensor: Tensor): Tensor =>
  tensor.dtype === "f32"
    ? new Tensor("f64", tensor.shape, new Uint8Array(Float64Array.from(tensor.f32()).buffer))
    : tensor;

/** The same graph over f64 where it was over f32; the reference engine runs it. */
export function inDoubles(graph: Graph): Graph {
  const value = <T extends Graph["inputs"][number]>(info: T): T =>
    info.dtype === "f32" ? { ...info, dtype: "f64" } : info;
  return {
    ...graph,
    inputs: graph.inputs.map(value),
    outputs: graph.outputs.map(value),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [name, widened(tensor)])),
  };
}

/** What a node without consumers would have to be, for a graph in which nothing is computed in vain. */
export function deadNodes(graph: Graph): Node[] {
  const used = new Set([
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...graph.outputs.map(({ name }) => name),
  ]);
  return graph.nodes.filter(({ outputs }) => !outputs.some((output) => used.has(output)));
}

/** Attributes of a Gemm, as floats where the operator has floats. */
export const scales = (alpha: number, beta: number) => ({ alpha: float(alpha), beta: float(beta) });

/** Types of a graph's values as text, to compare with. */
export const typesOf = (graph: Graph): Record<string, string> =>
  Object.fromEntries([...inferShapes(graph)].map(([name, { dtype, shape }]) => [name, `${dtype}[${shape}]`]));
