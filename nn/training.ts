/**
 * The graphs a stage trains with, made from its forward graph.
 *
 * - `joint`: forward and backward in one run, for the last stage (and a single device): loss in, gradients out.
 * - `forward` and `backward`: two runs with other micro-batches between them. What backward needs of forward is
 *   either stashed (outputs of forward, inputs of backward) or recomputed from the stage's input (activation
 *   checkpointing, Chen et al., 2016), by choice.
 * - `evaluate`: forward only, for validation.
 *
 * All of them are cut from one joint graph, so the same arithmetic is spelled the same way everywhere; that is what
 * makes one device and many give the same bits.
 */

import { differentiate } from "./autodiff/gradient.ts";
import { extract, type Source } from "./onnx/extract.ts";
import type { Graph, Node, ValueInfo } from "./onnx/graph.ts";
import { accumulate, sumName } from "./passes/accumulate.ts";
import { geluBetweenProducts } from "./passes/gelu-between-products.ts";
import { sumIntoGemm } from "./passes/sum-into-gemm.ts";

export interface StageGraphs {
  /** The stage's parameters, in the model's order. */
  readonly parameters: readonly ValueInfo[];
  /** Name of the incoming activation; null on the first stage. Its gradient is `gradientName(input)`. */
  readonly input: string | null;
  /** Name of the outgoing activation; null on the last stage, whose output is `loss`. */
  readonly output: string | null;
  /** Values that forward hands to backward. Empty when recomputing, or on the last stage. */
  readonly stash: readonly ValueInfo[];
  readonly forward: Graph | null;
  readonly backward: Graph | null;
  readonly joint: Graph | null;
  readonly evaluate: Graph;
}

export interface StageOptions {
  readonly input: string | null;
  readonly output: string | null;
  /** Micro-batches in a step: gradients are of the mean loss over all of them. */
  readonly microBatches: number;
  /** Recompute activations in backward rather than stash them. */
  readonly recompute: boolean;
}

export const gradientName = (value: string): string => `grad.${value}`;

/** Operators that only relabel memory; redone where needed, never stashed. */
const VIEWS = new Set(["Reshape", "Squeeze", "Unsqueeze", "Identity"]);

/**
 * @param forward the stage's forward graph, as `cutGraph` returns it.
 * @param isParameter tells parameters from data among its inputs.
 */
export function trainingGraphs(
  forward: Graph,
  isParameter: (name: string) => boolean,
  options: StageOptions,
): StageGraphs {
  const { input, output, microBatches, recompute } = options;
  const parameters = forward.inputs.filter(({ name }) => isParameter(name));
  const names = parameters.map(({ name }) => name);
  const result = output ?? forward.outputs[0]!.name;
  const seed = output === null ? 1 / microBatches : gradientName(output);
  const joint = differentiate(
    geluBetweenProducts(forward),
    { [result]: seed },
    input === null ? names : [...names, input],
  );
  const { backward, accumulators } = accumulate(joint, names);

  const dInput = input === null ? [] : [joint.gradients.get(input)!];
  const source: Source = {
    name: forward.name,
    initializers: joint.builder.build().initializers,
    nodes: [...joint.forward, ...sumIntoGemm(backward, (name) => dInput.includes(name))],
  };
  const seedInput = output === null ? [] : [{ name: gradientName(output), ...joint.builder.type(output) }];
  const inputs = [...forward.inputs, ...seedInput, ...accumulators];
  const results = [...names.map(sumName), ...dInput];
  const rename = (graph: Graph) =>
    input === null ? graph : renameOutput(graph, dInput[0]!, gradientName(input));

  const shared = { parameters, input, output, evaluate: extract(source, forward.inputs, [result]) };
  if (output === null) {
    const graph = rename(extract(source, inputs, [result, ...results]));
    return { ...shared, stash: [], forward: null, backward: null, joint: graph };
  }
  if (recompute) {
    const graph = rename(extract(source, inputs, results));
    return { ...shared, stash: [], forward: shared.evaluate, backward: graph, joint: null };
  }
  const stash = crossing(source, joint.forward).map((name): ValueInfo => {
    return { name, ...joint.builder.type(name) };
  });
  const stashed = stash.map(({ name }) => name).filter((name) => name !== output);
  return {
    ...shared,
    stash,
    forward: extract(source, forward.inputs, [output, ...stashed]),
    backward: rename(extract(source, [...inputs, ...stash], results)),
    joint: null,
  };
}

/** Values computed by forward nodes and read by the others, with views traced back to what they view. */
function crossing(source: Source, forward: readonly Node[]): string[] {
  const inForward = new Set(forward);
  const producer = new Map<string, Node>();
  for (const node of forward) for (const name of node.outputs) producer.set(name, node);
  const found = new Set<string>();
  const trace = (name: string): void => {
    const node = producer.get(name);
    if (!node) return;
    if (VIEWS.has(node.op)) trace(node.inputs[0]!);
    else found.add(name);
  };
  for (const node of source.nodes) if (!inForward.has(node)) node.inputs.forEach(trace);
  return [...producer.keys()].filter((name) => found.has(name));
}

function renameOutput(graph: Graph, from: string, to: string): Graph {
  if (graph.inputs.some(({ name }) => name === from)) {
    // A stage that only adds passes its gradient on as it came: an output of its own is needed all the same.
    const copy: Node = { op: "Identity", domain: "", inputs: [from], outputs: [to], attributes: {} };
    const outputs = graph.outputs.map((output) => (output.name === from ? { ...output, name: to } : output));
    return { ...graph, outputs, nodes: [...graph.nodes, copy] };
  }
  const swap = (name: string) => (name === from ? to : name);
  return {
    ...graph,
    outputs: graph.outputs.map((output) => ({ ...output, name: swap(output.name) })),
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(swap),
      outputs: node.outputs.map(swap),
    })),
  };
}
