/**
 * What a run of a graph needs besides its inputs and outputs, which are bound to memory of their own: the most bytes of
 * intermediate values that are alive at once when nodes run in the order they are written in. An engine that reuses
 * memory well comes close to it; fragments of its arena come on top.
 */

import { byteLength } from "../../protocols/tensor.ts";
import type { Graph } from "../onnx/graph.ts";
import { inferShapes } from "../onnx/shapes.ts";
import { VIEWS } from "./stash.ts";

/** Bytes. A view counts as the value that it looks at. */
export function peakBytes(graph: Graph): number {
  const types = inferShapes(graph);
  const { initializers } = graph;
  const bound = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  const viewed = new Map<string, string>();
  for (const { op, inputs, outputs } of graph.nodes) {
    if (VIEWS.has(op)) viewed.set(outputs[0]!, viewed.get(inputs[0]!) ?? inputs[0]!);
  }
  const lastReader = new Map<string, number>();
  graph.nodes.forEach(({ inputs }, at) => {
    for (const name of inputs) lastReader.set(viewed.get(name) ?? name, at);
  });
  const size = (name: string) => {
    const type = types.get(name);
    return type ? byteLength(type.dtype, type.shape) : 0;
  };
  const alive = new Set<string>();
  let bytes = 0;
  let peak = 0;
  graph.nodes.forEach(({ inputs, outputs }, at) => {
    for (const name of outputs) {
      if (name === "" || bound.has(name) || viewed.has(name) || !lastReader.has(name)) continue;
      alive.add(name);
      bytes += size(name);
    }
    peak = Math.max(peak, bytes);
    for (const input of inputs) {
      const name = viewed.get(input) ?? input;
      if (lastReader.get(name) !== at || initializers.has(name) || !alive.delete(name)) continue;
      bytes -= size(name);
    }
  });
  return peak;
}
