/**
 * The graphs a stage trains with, made from its forward graph.
 *
 * - `joint`: forward and backward in one run, for the last stage (and a single device): loss in, gradients out.
 * - `forward` and `backward`: two runs with other micro-batches between them. What backward needs of forward is
 *   either stashed (outputs of forward, inputs of backward) or recomputed from the stage's input (activation
 *   checkpointing, Chen et al., 2016), by choice, tensor by tensor; see `memory/stash.ts`.
 * - `backwardInput` and `backwardWeights`: `backward` in two runs, the gradient of the stage's input first and those of
 *   its parameters whenever there is time (zero-bubble schedules, Qi et al., 2023).
 * - `evaluate`: forward only, for validation.
 *
 * All of them are cut from one joint graph, so the same arithmetic is spelled the same way everywhere; that is what
 * makes one device and many give the same bits.
 */

import { byteLength, type DType } from "../protocols/tensor.ts";
import { differentiate } from "./autodiff/gradient.ts";
import { chooseStash } from "./memory/stash.ts";
import { COUNTERS, type Roles, rolesOf, rolesWithin } from "./model.ts";
import { extract, type Source } from "./onnx/extract.ts";
import { type Graph, GraphError, type Node, type ValueInfo } from "./onnx/graph.ts";
import { accumulate, sumName } from "./passes/accumulate.ts";
import { writeDropout } from "./passes/dropout.ts";
import { evaluationForm } from "./passes/evaluation.ts";
import { geluBetweenProducts } from "./passes/gelu-between-products.ts";
import { sumIntoGemm } from "./passes/sum-into-gemm.ts";
import { widenLate, widenTwice } from "./passes/widen.ts";
import { splitBackward } from "./training/split.ts";

/** A running statistic: the input it is read from, and the output that replaces it after a micro-batch. */
export interface Statistic extends ValueInfo {
  readonly output: string;
}

export interface StageGraphs {
  /** The stage's parameters, in the model's order. */
  readonly parameters: readonly ValueInfo[];
  /** Values that it holds and does not train, of any type. */
  readonly frozen: readonly ValueInfo[];
  readonly statistics: readonly Statistic[];
  /** Inputs that come with every micro-batch from the data source. */
  readonly data: readonly ValueInfo[];
  /**
   * Parameters that are one, of which this stage holds at least one: groups of names, some of which other stages may
   * hold. The first of a group is its owner; the order is that in which their gradients are added.
   */
  readonly ties: readonly (readonly string[])[];
  /** Name of the incoming activation; null on the first stage. */
  readonly input: string | null;
  /** Name of the outgoing activation; null on the last stage, whose output is `loss`. */
  readonly output: string | null;
  /** The value that `evaluate`, and a last stage's training run, ends in: `output` or the loss. */
  readonly result: string;
  /** Whether `gradientName(input)` is computed, for the stage before; false where nothing there is trained. */
  readonly inputGradient: boolean;
  /** Whether `gradientName(output)` is wanted of the stage behind; false where nothing up to here is trained. */
  readonly outputGradient: boolean;
  /** Values that forward hands to backward. Empty when recomputing, and where forward and backward are one run. */
  readonly stash: readonly ValueInfo[];
  readonly forward: Graph | null;
  readonly backward: Graph | null;
  /** Instead of `backward`, when split; null where the input's gradient is not wanted. */
  readonly backwardInput: Graph | null;
  /** Instead of `backward`, when split; null where nothing is trained. */
  readonly backwardWeights: Graph | null;
  readonly joint: Graph | null;
  readonly evaluate: Graph;
}

export interface StageOptions {
  readonly input: string | null;
  readonly output: string | null;
  /** Whether the gradient of `input` is wanted; left out, it is. */
  readonly inputGradient?: boolean;
  /** Micro-batches in a step: gradients are of the mean loss over all of them. */
  readonly microBatches: number;
  /** Recompute activations in backward rather than stash them: all of them, or as many as `stashBytes` does not hold. */
  readonly recompute: boolean;
  /** With `recompute`, how many bytes of each micro-batch may be stashed all the same, besides the input; 0 if left out. */
  readonly stashBytes?: number;
  /** The backward pass in two runs. The last stage then has a forward run of its own. */
  readonly split?: boolean;
  /** The gradient of the loss is an input, `LOSS_GRADIENT`, instead of the constant 1 / `microBatches`. */
  readonly scaledLoss?: boolean;
}

export const gradientName = (value: string): string => `grad.${value}`;

/** f32 scalar input of a last stage with `scaledLoss`: the loss's scale / micro-batches. */
export const LOSS_GRADIENT = "troupe.loss_gradient";

const REAL: readonly DType[] = ["f32", "f16", "bf16", "f64"];

/**
 * @param given the stage's forward graph, as `cutGraph` returns it.
 * @param roles what the inputs of the model are, or which of them are parameters where the rest is data.
 * @throws GraphError for an operator that has no gradient, and for a parameter that is not f32.
 */
export function trainingGraphs(
  given: Graph,
  roles: Roles | ((name: string) => boolean),
  options: StageOptions,
): StageGraphs {
  const { input, output, microBatches, recompute, split = false } = options;
  const own = rolesWithin(typeof roles === "function" ? simpleRoles(given, roles) : roles, given);
  const forward = writeDropout(given);
  const result = output ?? forward.outputs[0]!.name;
  const inputs = inputsByRole(forward, own, input);
  const names = inputs.parameters.map(({ name }) => name);
  const replaced = inputs.statistics.map((statistic) => statistic.output);
  const incoming = forward.inputs.find(({ name }) => name === input);
  const inputGradient =
    (options.inputGradient ?? true) && incoming !== undefined && REAL.includes(incoming.dtype);
  const wrt = inputGradient ? [...names, input!] : names;
  const trained = wrt.length > 0;

  const seed = output !== null ? gradientName(output) : options.scaledLoss ? LOSS_GRADIENT : 1 / microBatches;
  const joint = differentiate(geluBetweenProducts(forward), trained ? { [result]: seed } : {}, wrt);
  const { backward, accumulators } = accumulate(joint, names);
  const dInput = inputGradient ? [joint.gradients.get(input!)!] : [];
  const held = new Set(own.frozen);
  const added = sumIntoGemm(backward, (name) => dInput.includes(name));
  const nodes = widenTwice(joint.builder, joint.forward, added, held);
  const { initializers } = joint.builder.build();
  const source: Source = { name: forward.name, initializers, nodes };
  const seeds = trained && typeof seed === "string" ? [{ name: seed, ...joint.builder.type(result) }] : [];
  const available = [...forward.inputs, ...seeds, ...accumulators];
  const sums = names.map(sumName);
  const rename = (graph: Graph) =>
    inputGradient ? renameOutput(graph, dInput[0]!, gradientName(input!)) : graph;

  const evaluation = { ...source, nodes: widenLate(evaluationForm(given, joint.forward), held) };
  const shared = {
    ...inputs,
    ties: tieGroups(own.ties, names),
    ...{ input, output, result, inputGradient, outputGradient: output !== null && trained },
    evaluate: extract(evaluation, forward.inputs, [result]),
    ...{ stash: [], forward: null, backward: null, backwardInput: null, backwardWeights: null, joint: null },
  };
  if (output === null && !split) {
    return {
      ...shared,
      joint: rename(extract(source, available, [result, ...replaced, ...sums, ...dInput])),
    };
  }
  const runForward = (stash: readonly string[]) =>
    extract(source, forward.inputs, [...new Set([result, ...stash, ...replaced])]);
  if (!trained) return { ...shared, forward: runForward([]) };

  const budget = recompute ? (options.stashBytes ?? 0) : Number.POSITIVE_INFINITY;
  const chosen = chooseStash(source, joint.forward, [...sums, ...dInput], budget, (name) =>
    joint.builder.type(name),
  );
  const stash = chosen.map((name): ValueInfo => ({ name, ...joint.builder.type(name) }));
  const stages = { ...shared, stash, forward: runForward(chosen) };
  const handed = [...available, ...stash];
  if (!split) return { ...stages, backward: rename(extract(source, handed, [...sums, ...dInput])) };
  const type = (name: string) => joint.builder.type(name);
  const { first, second } = splitBackward(source, handed, dInput, sums, type);
  const isGiven = handed.some(({ name }) => name === dInput[0]);
  const backwardWeights = second && (isGiven ? second : rename(second));
  return { ...stages, backwardInput: first && rename(first), backwardWeights };
}

/** Bytes that a stage keeps of every micro-batch in flight: its input, if it has one, and its stash. */
export function keptBytes({ input, stash, forward, joint }: StageGraphs): number {
  const incoming = [...(forward ?? joint!).inputs].filter(({ name }) => name === input);
  return [...incoming, ...stash].reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);
}

function simpleRoles(graph: Graph, isParameter: (name: string) => boolean): Roles {
  return rolesOf(graph.inputs.map(({ name }) => name).filter(isParameter));
}

function inputsByRole(graph: Graph, roles: Roles, input: string | null) {
  const infos = new Map(graph.inputs.map((info) => [info.name, info]));
  const pick = (names: readonly string[]) => names.map((name) => infos.get(name)!);
  const trained = new Set(roles.parameters);
  const parameters = graph.inputs.filter(({ name }) => trained.has(name));
  const wrong = parameters.find(({ dtype }) => dtype !== "f32");
  if (wrong) {
    throw new GraphError(
      `parameter ${wrong.name} is ${wrong.dtype}: parameters are trained in f32, cast it where ${wrong.dtype} is wanted`,
    );
  }
  const statistics = Object.entries(roles.statistics).map(
    ([name, output]): Statistic => ({ ...infos.get(name)!, output }),
  );
  const known = new Set([
    ...roles.parameters,
    ...roles.frozen,
    ...Object.keys(roles.statistics),
    ...COUNTERS,
    ...(input === null ? [] : [input]),
  ]);
  const data = graph.inputs.filter(({ name }) => !known.has(name));
  return { parameters, frozen: pick(roles.frozen), statistics, data };
}

/** Owners with their further uses, of those groups that have one of `names`. */
export function tieGroups(ties: Readonly<Record<string, string>>, names: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const [use, owner] of Object.entries(ties)) {
    const group = groups.get(owner) ?? [owner];
    groups.set(owner, [...group, use]);
  }
  const held = new Set(names);
  return [...groups.values()].filter((group) => group.some((name) => held.has(name)));
}

/** Gives a result its name for the outside, wherever the graph has it. */
function renameOutput(graph: Graph, from: string, to: string): Graph {
  const isOutput = graph.outputs.some(({ name }) => name === from);
  if (isOutput && graph.inputs.some(({ name }) => name === from)) {
    // A stage that only adds passes its gradient on as it came: an output of its own is needed all the same.
    const copy: Node = { op: "Identity", domain: "", inputs: [from], outputs: [to], attributes: {} };
    const outputs = graph.outputs.map((output) => (output.name === from ? { ...output, name: to } : output));
    return { ...graph, outputs, nodes: [...graph.nodes, copy] };
  }
  const swap = (name: string) => (name === from ? to : name);
  const swapInfo = (info: ValueInfo) => (info.name === from ? { ...info, name: to } : info);
  return {
    ...graph,
    inputs: graph.inputs.map(swapInfo),
    outputs: graph.outputs.map(swapInfo),
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(swap),
      outputs: node.outputs.map(swap),
    })),
  };
}
