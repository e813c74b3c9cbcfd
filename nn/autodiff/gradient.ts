/**
 * Reverse-mode differentiation of an ONNX graph: a forward graph in, the same graph with its backward pass
 * appended out (Griewank and Walther, "Evaluating Derivatives", 2008; one adjoint per value, accumulated in
 * reverse topological order). What runs when is not decided here: `training.ts` cuts the joint graph.
 */

import type { DType } from "../../protocols/tensor.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { type Graph, GraphError, type Node, TROUPE } from "../onnx/graph.ts";
import { filledTensor } from "../onnx/numbers.ts";
import { describe, inferShapes } from "../onnx/shapes.ts";
import { pathThrough } from "./path.ts";
import { type DirectRule, FLAT, type GradientRule, type Saved } from "./rule.ts";
import { activationRules } from "./rules/activations.ts";
import { geluRules } from "./rules/activations-gelu.ts";
import { attentionRules } from "./rules/attention.ts";
import { convolutionRules } from "./rules/convolution.ts";
import { dropoutRules } from "./rules/dropout.ts";
import { einsumRules } from "./rules/einsum.ts";
import { elementwiseRules } from "./rules/elementwise.ts";
import { powerRules } from "./rules/elementwise-power.ts";
import { indexingRules } from "./rules/indexing.ts";
import { layoutRules } from "./rules/layout.ts";
import { lossRules } from "./rules/losses.ts";
import { normalisationRules } from "./rules/normalisation.ts";
import { channelNormalisationRules } from "./rules/normalisation-channels.ts";
import { poolingRules } from "./rules/pooling.ts";
import { productRules } from "./rules/products.ts";
import { reductionRules } from "./rules/reductions.ts";
import { softmaxRules } from "./rules/reductions-softmax.ts";
import { shapeRules } from "./rules/shape.ts";

export const GRADIENT_RULES: Readonly<Record<string, GradientRule>> = {
  ...activationRules,
  ...convolutionRules,
  ...einsumRules,
  ...elementwiseRules,
  ...geluRules,
  ...lossRules,
  ...channelNormalisationRules,
  ...normalisationRules,
  ...poolingRules,
  ...powerRules,
  ...productRules,
  ...reductionRules,
  ...softmaxRules,
  ...shapeRules,
  ...layoutRules,
  ...indexingRules,
  ...attentionRules,
  ...dropoutRules,
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
 * A composite operator is written out first. An input all of whose ways to the outputs lead through operators of no
 * slope has a gradient of zeros.
 * @throws GraphError naming the operator without a rule, or in a form whose rule is not known, with its node and the
 *   way through it; or the input that no output depends on.
 */
export function differentiate(
  graph: Graph,
  seeds: Readonly<Record<string, string | number>>,
  wrt: readonly string[],
): JointGraph {
  const outputs = Object.keys(seeds);
  return differentiateDirect(expandComposites(graph, outputs, wrt), seeds, wrt);
}

function differentiateDirect(
  graph: Graph,
  seeds: Readonly<Record<string, string | number>>,
  wrt: readonly string[],
): JointGraph {
  const builder = builderOf(graph);
  const outputs = Object.keys(seeds);
  const active = activeValues(graph, outputs, wrt);
  const isActive = (node: Node) => node.outputs.some((output) => active.has(output));
  const at = <T>(node: Node, act: (rule: DirectRule) => T): T =>
    located(graph, node, outputs, wrt, () => act(ruleOf(node) as DirectRule));
  const saved = new Map<Node, Saved>();
  for (const node of graph.nodes) {
    // No engine has operators of our own: they are written out where no gradient flows, too.
    const rewritten = isActive(node) || node.domain === TROUPE;
    const forward = rewritten ? at(node, (rule) => rule.forward) : undefined;
    if (forward)
      saved.set(
        node,
        at(node, () => forward(builder, node)),
      );
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
    const gradient =
      typeof seed === "number" ? builder.scalarLike(seed, output) : builder.input(seed, dtype, shape);
    adjoints.set(output, gradient);
  }
  for (const node of [...graph.nodes].reverse()) {
    if (!isActive(node) || !node.outputs.some((output) => adjoints.has(output))) continue;
    const gradients = at(node, (rule) =>
      rule.backward({
        builder,
        node,
        gradient: (index) => adjoints.get(node.outputs[index]!),
        wants: (index) => active.has(node.inputs[index]!),
        saved: saved.get(node) ?? {},
      }),
    );
    node.inputs.forEach((input, index) => {
      const gradient = gradients[index];
      if (gradient === undefined || !active.has(input)) return;
      const sum = adjoints.get(input);
      adjoints.set(input, sum === undefined ? gradient : builder.op("Add", [sum, gradient]));
    });
  }

  const gradients = wrt.map((name): [string, string] => {
    const gradient = adjoints.get(name);
    if (gradient) return [name, gradient];
    if (neededValues(graph, outputs, () => true).has(name)) return [name, zeros(builder, name)];
    throw new GraphError(`graph ${graph.name}: no output depends on "${name}"`);
  });
  const nodes = builder.nodeList;
  return {
    builder,
    forward: nodes.slice(0, forwardCount),
    backward: nodes.slice(forwardCount),
    gradients: new Map(gradients),
  };
}

/** A builder with the graph's inputs and constants that keeps off the names of its nodes. */
function builderOf(graph: Graph): GraphBuilder {
  const builder = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) builder.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) builder.constant(name, tensor);
  builder.reserve(graph.nodes.flatMap((node) => node.outputs));
  return builder;
}

/** The graph with composite operators written out where a gradient flows through them. */
function expandComposites(graph: Graph, outputs: readonly string[], wrt: readonly string[]): Graph {
  const composite = (node: Node) => {
    const rule = GRADIENT_RULES[node.op];
    return rule && "expand" in rule ? rule : undefined;
  };
  if (!graph.nodes.some(composite)) return graph;
  const active = activeValues(graph, outputs, wrt);
  const builder = builderOf(graph);
  let expanded = false;
  for (const node of graph.nodes) {
    const found = composite(node);
    const rule = found?.always || node.outputs.some((output) => active.has(output)) ? found : undefined;
    if (rule) located(graph, node, outputs, wrt, () => rule.expand(builder, node));
    else builder.append(node);
    expanded ||= rule !== undefined;
  }
  if (!expanded) return graph;
  for (const { name } of graph.outputs) builder.output(name);
  return expandComposites(builder.build(), outputs, wrt);
}

/** Runs what a rule does at a node; an error says how the node comes to be differentiated. */
function located<T>(
  graph: Graph,
  node: Node,
  outputs: readonly string[],
  wrt: readonly string[],
  run: () => T,
): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof GraphError)) throw cause;
    const path = pathThrough(graph, node, new Set(wrt), new Set(outputs));
    throw new GraphError(`${cause.message}; differentiated on the way ${path}`, { cause });
  }
}

function ruleOf(node: Node): GradientRule {
  const rule = GRADIENT_RULES[node.op];
  if (!rule) throw new GraphError(`no gradient rule for operator ${node.op}, at ${describe(node)}`);
  return rule;
}

function zeros(builder: GraphBuilder, like: string): string {
  const { dtype, shape } = builder.type(like);
  return builder.op("ConstantOfShape", [builder.ints(shape)], { value: filledTensor(dtype, [1], 0) });
}

const REAL: readonly DType[] = ["f32", "f16", "bf16", "f64"];

/** Values on a path from `wrt` to `outputs` that are real numbers all along: those that have a gradient. */
function activeValues(graph: Graph, outputs: readonly string[], wrt: readonly string[]): Set<string> {
  const types = inferShapes(graph);
  const dependent = new Set(wrt);
  for (const node of graph.nodes) {
    if (isFlat(node) || !node.inputs.some((input) => dependent.has(input))) continue;
    for (const output of node.outputs) {
      if (output !== "" && REAL.includes(types.get(output)!.dtype)) dependent.add(output);
    }
  }
  const needed = neededValues(graph, outputs, (node) => !isFlat(node));
  return new Set([...dependent].filter((name) => needed.has(name)));
}

const isFlat = (node: Node) => GRADIENT_RULES[node.op] === FLAT;

/** Values that outputs are computed from by the nodes that count. */
function neededValues(
  graph: Graph,
  outputs: readonly string[],
  counts: (node: Node) => boolean,
): Set<string> {
  const needed = new Set(outputs);
  for (const node of [...graph.nodes].reverse()) {
    if (!counts(node) || !node.outputs.some((output) => needed.has(output))) continue;
    for (const input of node.inputs) needed.add(input);
  }
  return needed;
}
