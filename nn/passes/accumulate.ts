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
  const producers = new Map(backward.flatMap((node, at) => node.outputs.map((name) => [name, at])));
  const read = new Set(backward.flatMap(({ inputs }) => inputs));
  const shared = new Map<string, number>();
  for (const name of joint.gradients.values()) shared.set(name, (shared.get(name) ?? 0) + 1);
  for (const parameter of parameters) {
    const gradient = joint.gradients.get(parameter)!;
    const [acc, sum] = [accumulatorName(parameter), sumName(parameter)];
    // A node that adds no longer yields the gradient itself, so nobody else may want it: two values that are only
    // ever added to each other share one gradient.
    const wanted = read.has(gradient) || shared.get(gradient)! > 1;
    const at = wanted ? undefined : producers.get(gradient);
    accumulators.push({ name: acc, ...joint.builder.type(gradient) });
    const producer = at === undefined ? undefined : backward[at]!;
    const target = backward[producers.get(producer?.inputs[0] ?? "") ?? -1];
    const merged = producer && addsInto(producer, target, acc, sum);
    if (merged) backward[at!] = merged;
    else backward.push({ op: "Add", domain: "", inputs: [acc, gradient], outputs: [sum], attributes: {} });
  }
  return { backward, accumulators };
}

/**
 * The node writing acc + gradient to `sum` itself, or undefined when it cannot.
 * @param target what makes the producer's first input.
 */
function addsInto(producer: Node, target: Node | undefined, acc: string, sum: string): Node | undefined {
  if (producer.op === "Gemm" && !producer.inputs[2]) {
    const attributes = { ...producer.attributes, beta: float(1) };
    return {
      ...producer,
      attributes,
      inputs: [producer.inputs[0]!, producer.inputs[1]!, acc],
      outputs: [sum],
    };
  }
  if (producer.op === "ScatterND" && target?.op === "ConstantOfShape") {
    return { ...producer, inputs: [acc, ...producer.inputs.slice(1)], outputs: [sum] };
  }
  return undefined;
}
