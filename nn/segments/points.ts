/** Where a forward graph may be cut, and which of its nodes make a piece worth a device. */

import type { Trainable } from "../model.ts";
import type { Node, ValueType } from "../onnx/graph.ts";
import { geluTriples } from "../passes/gelu-between-products.ts";
import type { Flow } from "./flow.ts";

/** Nodes after which exactly one activation is alive, and that activation, which they have just computed. */
export function cutPoints({ graph }: Trainable, flow: Flow): { node: Node; value: string }[] {
  const { main, activations, together } = flow;
  const lastUse = new Map<string, number>();
  main.forEach((node, i) => {
    for (const input of node.inputs) lastUse.set(input, i);
  });
  lastUse.set(graph.outputs[0]!.name, main.length);
  const rewritten = new Set(geluTriples(graph).flatMap(({ gelu }) => [gelu.inputs[0]!, gelu.outputs[0]!]));
  const within = covered(together, main.length);

  let alive = 0;
  const dying = new Map<number, number>();
  const points: { node: Node; value: string }[] = [];
  main.forEach((node, i) => {
    const made = node.outputs.filter((output) => activations.has(output) && lastUse.has(output));
    alive += made.length;
    for (const output of made) {
      const at = lastUse.get(output)!;
      dying.set(at, (dying.get(at) ?? 0) + 1);
    }
    alive -= dying.get(i) ?? 0;
    const [value] = made;
    if (alive !== 1 || value === undefined || made.length > 1 || within[i]) return;
    if (rewritten.has(value) || lastUse.get(value) === main.length) return;
    points.push({ node, value });
  });
  return points;
}

/** Whether a cut behind each place would be within one of the ranges. */
function covered(ranges: readonly (readonly [number, number])[], count: number): boolean[] {
  const change = new Int32Array(count + 1);
  for (const [first, last] of ranges) {
    change[first]!++;
    change[last]!--;
  }
  let open = 0;
  return Array.from({ length: count }, (_, i) => {
    open += change[i]!;
    return open > 0;
  });
}

/** Reading a matrix through one of these is neither multiplying by it nor looking something up in it. */
const ELEMENTWISE = new Set([
  ...["Add", "Sub", "Mul", "Div", "Pow", "Where", "Min", "Max", "PRelu", "Concat"],
  ...["Reshape", "Slice", "Transpose", "Identity", "Expand", "Squeeze", "Unsqueeze", "Cast"],
]);

/** Tells nodes that multiply by a held matrix, or look something up in one. */
export function readsMatrix(
  { parameters, frozen }: Trainable,
  types: ReadonlyMap<string, ValueType>,
): (node: Node) => boolean {
  const weights = new Set([...parameters, ...frozen]);
  const made = new Set(weights);
  return ({ op, inputs, outputs }) => {
    const isMatrix = (name: string) => made.has(name) && types.get(name)!.shape.length >= 2;
    if (inputs.every((name) => name === "" || made.has(name))) {
      // A weight in another form: transposed, cast, with its scale multiplied in.
      for (const output of outputs) made.add(output);
      return false;
    }
    return !ELEMENTWISE.has(op) && inputs.some(isMatrix);
  };
}
