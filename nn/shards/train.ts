/**
 * The graphs a rank trains one phase with: forward, which hands on what other phases read and what backward needs; and
 * backward, from the gradients of the phase's outputs to those of its inputs, with the parameters' added up over the
 * micro-batches as everywhere else (`passes/accumulate.ts`). Both are cut from one joint graph, as those of `training.ts`
 * are, by the same passes: what is spelled one way there is spelled that way here.
 */

import { byteLength } from "../../protocols/tensor.ts";
import { differentiate } from "../autodiff/gradient.ts";
import { chooseStash } from "../memory/stash.ts";
import { extract, type Source } from "../onnx/extract.ts";
import type { Graph, Node, ValueInfo } from "../onnx/graph.ts";
import { accumulate, sumName } from "../passes/accumulate.ts";
import { writeDropout } from "../passes/dropout.ts";
import { evaluationForm } from "../passes/evaluation.ts";
import { geluBetweenProducts } from "../passes/gelu-between-products.ts";
import { sumIntoGemm } from "../passes/sum-into-gemm.ts";
import { widenLate, widenTwice } from "../passes/widen.ts";
import { gradientName } from "../training.ts";
import type { Phase, ShardPlan } from "./plan.ts";

export interface PhaseGraphs {
  /** Parameters whose gradients are added to `acc.<name>`, giving `sum.<name>`, as in `passes/accumulate.ts`. */
  readonly parameters: readonly ValueInfo[];
  readonly forward: Graph;
  /** As forward, for validation: dropout lets everything through, and nothing is stashed. */
  readonly evaluate: Graph;
  /**
   * Reads the phase's inputs, the stash, `grad.<name>` of `outputGradients` and the accumulators; writes the sums and
   * `grad.<name>` of `inputGradients`. Null where nothing is trained up to here.
   */
  readonly backward: Graph | null;
  /** Values that forward hands to backward, besides its inputs; and how many bytes they are. */
  readonly stash: readonly ValueInfo[];
  readonly stashBytes: number;
  readonly inputGradients: readonly string[];
  readonly outputGradients: readonly string[];
}

/** @param stashBytes of each micro-batch that may be kept; what is more is recomputed. All of it when left out. */
export function phaseGraphs(
  plan: ShardPlan,
  phase: Phase,
  rank: number,
  stashBytes = Number.POSITIVE_INFINITY,
): PhaseGraphs {
  const forward = writeDropout(phase.graphs[rank]!);
  const trained = new Set(phase.trained);
  const isParameter = (name: string) => (plan.holdings[name]?.gradient ?? null) !== null;
  const parameters = forward.inputs.filter(({ name }) => isParameter(name));
  const names = parameters.map(({ name }) => name);
  const held = new Set(Object.keys(plan.holdings).filter((name) => !isParameter(name)));
  const evaluate = evaluationGraph(phase.graphs[rank]!, held);
  const inputGradients = forward.inputs.map(({ name }) => name).filter((name) => trained.has(name));
  const outputs = forward.outputs.map(({ name }) => name);
  const outputGradients = outputs.filter((name) => trained.has(name));
  const wrt = [...names, ...inputGradients];
  if (wrt.length === 0 || outputGradients.length === 0) {
    const none = { backward: null, stash: [], stashBytes: 0, inputGradients: [], outputGradients: [] };
    return { parameters, forward, evaluate, ...none };
  }
  const seeds = Object.fromEntries(outputGradients.map((name) => [name, gradientName(name)]));
  const joint = differentiate(geluBetweenProducts(forward), seeds, wrt);
  const { backward, accumulators } = accumulate(joint, names);
  const gradients = new Set(inputGradients.map((name) => joint.gradients.get(name)!));
  const added = sumIntoGemm(backward, (name) => gradients.has(name));
  const named = inputGradients.map((name): Node => {
    const [from, to] = [joint.gradients.get(name)!, gradientName(name)];
    return { op: "Identity", domain: "", inputs: [from], outputs: [to], attributes: {} };
  });
  const nodes = [...widenTwice(joint.builder, joint.forward, added, held), ...named];
  const source: Source = { name: forward.name, initializers: joint.builder.build().initializers, nodes };
  const type = (name: string) => joint.builder.type(name);
  const results = [...names.map(sumName), ...inputGradients.map(gradientName)];
  const chosen = chooseStash(source, joint.forward, results, stashBytes, type);
  const stash = chosen.map((name): ValueInfo => ({ name, ...type(name) }));
  const kept = stash.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);
  const incoming = outputGradients.map((name): ValueInfo => ({ name: gradientName(name), ...type(name) }));
  const available = [...forward.inputs, ...incoming, ...accumulators, ...stash];
  return {
    ...{ parameters, evaluate, stash, stashBytes: kept, inputGradients, outputGradients },
    forward: extract(source, forward.inputs, [...new Set([...outputs, ...chosen])]),
    backward: extract(source, available, results),
  };
}

function evaluationGraph(graph: Graph, held: ReadonlySet<string>): Graph {
  const nodes = widenLate(evaluationForm(graph, graph.nodes), held);
  const outputs = graph.outputs.map(({ name }) => name);
  return extract({ ...graph, nodes }, graph.inputs, outputs);
}
