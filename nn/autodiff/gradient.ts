/**
 * Reverse-mode differentiation of an ONNX graph: a forward graph in, the same graph with its backward pass
 * appended out (Griewank and Walther, "Evaluating Derivatives", 2008; one adjoint per value, accumulated in
 * reverse topological order). What runs when is not decided here: `training.ts` cuts the joint graph.
 */

import type { DType } from "../../protocols/tensor.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { describe, inferShapes } from "../onnx/shapes.ts";
import type { GradientRule, Saved } from "./rule.ts";
import { elementwiseRules } from "./rules/elementwise.ts";
import { normalisationRules } from "./rules/normalisation.ts";
import { productRules } from "./rules/products.ts";
import { reductionRules } from "./rules/reductions.ts";
import { shapeRules } from "./rules/shape.ts";

export const GRADIENT_RULES: Readonly<Record<string, GradientRule>> = {
  ...elementwiseRules,
  ...normalisationRules,
  ...productRules,
  ...reductionRules,
  ...shapeRules,
};

export interface JointGraph {
  /** Forward nodes, then backward nodes; outputs are not declared. */
  readonly builder: GraphBuilder;
  readonly forward: readonly Node[];
  readonly backward: readonly Node[];
  /** Gradient value of every name in `wrt`, in that order. */
  readonly gradients: ReadonlyMap<string, string>;
}

/**
 * Differentiates the outputs of `graph` with respect to `wrt`.
 * @param seeds gradient of each output: the name of a new graph input of the output's shape, or a number for a
 *   scalar output (a loss), which becomes a constant.
 * @param wrt names of inputs whose gradients are wanted.
 * @throws GraphError naming the operator without a rule and its node, or the input no output depends on.
 */
export function differentiate(
  graph: Graph,
  seeds: Readonly<Record<string, string | number>>,
  wrt: readonly string[],
): JointGraph {
  const builder = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) builder.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) builder.constant(name, tensor);
  builder.reserve(graph.nodes.flatMap((node) => node.outputs));

  const active = activeValues(graph, Object.keys(seeds), wrt);
  const isActive = (node: Node) => node.outputs.some((output) => active.has(output));
  const saved = new Map<Node, Saved>();
  for (const node of graph.nodes) {
    const rule = isActive(node) ? ruleOf(node) : undefined;
    if (rule?.forward) saved.set(node, rule.forward(builder, node));
    else builder.append(node);
  }
  const forwardCount = builder.nodeList.length;

  const adjoints = new Map<string, string>();
  for (const [output, seed] of Object.entries(seeds)) {
    const { dtype, shape } = builder.type(output);
    if (typeof seed === "number" && shape.length > 0) {
      throw new GraphError(
        `output "${output}" is [${shape}]: only a scalar's gradient can be given as a number`,
      );
    }
    adjoints.set(output, typeof seed === "number" ? builder.scalar(seed) : builder.input(seed, dtype, shape));
  }
  for (const node of [...graph.nodes].reverse()) {
    if (!isActive(node) || !node.outputs.some((output) => adjoints.has(output))) continue;
    const gradients = ruleOf(node).backward({
      builder,
      node,
      gradient: (index) => adjoints.get(node.outputs[index]!),
      wants: (index) => active.has(node.inputs[index]!),
      saved: saved.get(node) ?? {},
    });
    node.inputs.forEach((input, index) => {
      const gradient = gradients[index];
      if (gradient === undefined || !active.has(input)) return;
      const sum = adjoints.get(input);
      adjoints.set(input, sum === undefined ? gradient : builder.op("Add", [sum, gradient]));
    });
  }

  const nodes = builder.nodeList;
  return {
    builder,
    forward: nodes.slice(0, forwardCount),
    backward: nodes.slice(forwardCount),
    gradients: new Map(
      wrt.map((name) => {
        const gradient = adjoints.get(name);
        if (!gradient) throw new GraphError(`graph ${graph.name}: no output depends on "${name}"`);
        return [name, gradient];
      }),
    ),
  };
}

function ruleOf(node: Node): GradientRule {
  const rule = GRADIENT_RULES[node.op];
  if (!rule) throw new GraphError(`no gradient rule for operator ${node.op}, at ${describe(node)}`);
  return rule;
}

const REAL: readonly DType[] = ["f32", "f16", "bf16", "f64"];

/** Values on a path from `wrt` to `outputs` that are real numbers all along: those that have a gradient. */
function activeValues(graph: Graph, outputs: readonly string[], wrt: readonly string[]): Set<string> {
  const types = inferShapes(graph);
  const dependent = new Set(wrt);
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => dependent.has(input))) continue;
    for (const output of node.outputs) {
      if (output !== "" && REAL.includes(types.get(output)!.dtype)) dependent.add(output);
    }
  }
  const needed = new Set(outputs);
  for (const node of [...graph.nodes].reverse()) {
    if (node.outputs.some((output) => needed.has(output))) for (const input of node.inputs) needed.add(input);
  }
  return new Set([...dependent].filter((name) => needed.has(name)));
}
