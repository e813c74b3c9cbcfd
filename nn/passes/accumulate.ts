/**
 * Gradient accumulation inside the graph: instead of the gradient g of a parameter p, the graph reads `acc.p` and
 * writes `sum.p` = acc.p + g. The two are bound to the same memory, so micro-batches add up in place.
 *
 * Where the node that makes g can add by itself it does: Gemm takes the accumulator as C with beta = 1, ScatterND
 * scatters into it. That saves a pass over every parameter per micro-batch.
 */

import type { JointGraph } from "../autodiff/gradient.ts";
import { float, type Node, type ValueInfo } from "../onnx/graph.ts";

export const accumulatorName = (parameter: string): string => `acc.${parameter}`;
export const sumName = (parameter: string): string => `sum.${parameter}`;

export interface Accumulated {
  /** The backward nodes of the joint graph, rewritten. */
  readonly backward: readonly Node[];
  /** The accumulators: new inputs. */
  readonly accumulators: readonly ValueInfo[];
}

export function accumulate(joint: JointGraph, parameters: readonly string[]): Accumulated {
  const backward = [...joint.backward];
  const accumulators: ValueInfo[] = [];
  for (const parameter of parameters) {
    const gradient = joint.gradients.get(parameter)!;
    const [acc, sum] = [accumulatorName(parameter), sumName(parameter)];
    accumulators.push({ name: acc, ...joint.builder.type(gradient) });
    // A node that adds no longer yields the gradient itself, so nobody else may want it: two values that are only
    // ever added to each other share one gradient.
    const wanted =
      backward.some((node) => node.inputs.includes(gradient)) ||
      [...joint.gradients.values()].filter((name) => name === gradient).length > 1;
    const at = wanted ? -1 : backward.findIndex((node) => node.outputs.includes(gradient));
    const merged = at >= 0 ? addsInto(backward[at]!, backward, acc, sum) : undefined;
    if (merged) backward[at] = merged;
    else backward.push({ op: "Add", domain: "", inputs: [acc, gradient], outputs: [sum], attributes: {} });
  }
  return { backward, accumulators };
}

/** The node writing acc + gradient to `sum` itself, or undefined when it cannot. */
function addsInto(producer: Node, nodes: readonly Node[], acc: string, sum: string): Node | undefined {
  if (producer.op === "Gemm" && !producer.inputs[2]) {
    const attributes = { ...producer.attributes, beta: float(1) };
    return {
      ...producer,
      attributes,
      inputs: [producer.inputs[0]!, producer.inputs[1]!, acc],
      outputs: [sum],
    };
  }
  const target = nodes.find((node) => node.outputs.includes(producer.inputs[0]!));
  if (producer.op === "ScatterND" && target?.op === "ConstantOfShape") {
    return { ...producer, inputs: [acc, ...producer.inputs.slice(1)], outputs: [sum] };
  }
  return undefined;
}
