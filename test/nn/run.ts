/** Graphs in tests: run once on an engine, filled with random values, taken to double precision; and a small MLP. */

import type { Engine } from "../../nn/engine/engine.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { DATA_TYPE } from "../../nn/onnx/datatype.ts";
import type { Graph, Node } from "../../nn/onnx/graph.ts";
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
    nodes: graph.nodes.map((node) =>
      node.op === "Cast" && node.attributes.to === DATA_TYPE.f32
        ? { ...node, attributes: { to: DATA_TYPE.f64 } }
        : node,
    ),
  };
}

/** Nodes of which nothing is used. */
export function deadNodes(graph: Graph): Node[] {
  const used = new Set([
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...graph.outputs.map(({ name }) => name),
  ]);
  return graph.nodes.filter(({ outputs }) => !outputs.some((output) => used.has(output)));
}

/** Layers of Gemm and an activation; returns the graph and its parameters. */
export function chain(
  widths: readonly number[],
  activation: string,
): { graph: Graph; parameters: Set<string> } {
  const b = new GraphBuilder("mlp");
  let x = b.input("x", "f32", [3, widths[0]!]);
  const parameters = new Set<string>();
  widths.slice(1).forEach((width, i) => {
    const [w, c] = [b.input(`w${i}`, "f32", [widths[i]!, width]), b.input(`b${i}`, "f32", [width])];
    parameters.add(w).add(c);
    x = b.op("Gemm", [x, w, c], {}, `product${i}`);
    if (i < widths.length - 2) x = b.op(activation, [x], {}, `active${i}`);
  });
  b.output(x);
  return { graph: b.build(), parameters };
}
