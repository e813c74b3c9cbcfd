/** The squares of gradients, summed by parameter: what clipping by the global norm needs to know of every stage. */

import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { sumName } from "../passes/accumulate.ts";

/** `sum.<p>` of every parameter in, `square_sums` f32 [parameters] out, in the given order. */
export function squareSumsGraph(parameters: readonly ValueInfo[]): Graph {
  const b = new GraphBuilder("square_sums");
  const parts = parameters.map(({ name, shape }) => {
    const gradient = b.input(sumName(name), "f32", shape);
    return b.op("Reshape", [b.op("ReduceSumSquare", [gradient], { keepdims: 0 }), b.ints([1])]);
  });
  b.op("Concat", parts, { axis: 0 }, "square_sums");
  b.output("square_sums");
  return b.build();
}
