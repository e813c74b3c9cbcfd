/**
 * A model's parts, one for each stage of a plan: the graph, what its inputs are, which data it reads, and with which
 * other parts it shares parameters. Pure; the scheduler makes stages of them.
 */

import { dataInputs, heldInputs, type Model, type Roles, rolesWithin } from "../../nn/model.ts";
import type { Graph, ValueInfo } from "../../nn/onnx/graph.ts";
import { type OptimizerConfig, stateNames } from "../../nn/optim/optimizer.ts";
import { outerStateNames } from "../../nn/optim/outer.ts";
import { cutGraph, type Segment } from "../../nn/segments.ts";
import { byteLength } from "../../protocols/tensor.ts";
import type { SegmentCost } from "./cost.ts";

export interface Part {
  readonly graph: Graph;
  readonly roles: Roles;
  readonly input: string | null;
  readonly output: string | null;
  /** Whether the gradient of `input` is wanted. */
  readonly inputGradient: boolean;
  /** Parameters, frozen values and statistics. */
  readonly held: readonly ValueInfo[];
  /** Values it reads that come from the data source. */
  readonly data: readonly string[];
  /** Its parameters that are tied to others, and the other parts that want their gradients. */
  readonly tied: Readonly<Record<string, readonly number[]>>;
}

/** The parts that hold segments [from, to) each. */
export function partsOf(
  model: Model,
  segments: readonly Segment[],
  ranges: readonly { readonly from: number; readonly to: number }[],
): Part[] {
  const data = new Set(dataInputs(model).map(({ name }) => name));
  const parts = ranges.map(({ from, to }) => {
    const graph = cutGraph(model.graph, segments, from, to);
    const roles = rolesWithin(model, graph);
    return {
      ...{ graph, roles },
      input: segments[from]!.input,
      output: segments[to - 1]!.output,
      inputGradient: segments[from]!.inputTrained,
      held: heldInputs({ ...roles, graph }),
      data: graph.inputs.map(({ name }) => name).filter((name) => data.has(name)),
    };
  });
  const ownerOf = (name: string) => model.ties[name] ?? name;
  return parts.map((part, own): Part => {
    const sharing = (name: string) =>
      parts.flatMap(({ roles }, other) =>
        other !== own && roles.parameters.some((their) => ownerOf(their) === ownerOf(name)) ? [other] : [],
      );
    const tied = part.roles.parameters.map((name) => [name, sharing(name)] as const);
    return { ...part, tied: Object.fromEntries(tied.filter(([, others]) => others.length > 0)) };
  });
}

/** Bytes that a stage with this segment holds, as the planner counts them, and that its output has. */
export function segmentSizes(
  { graph }: Pick<Model, "graph">,
  segment: Segment,
  optimizer: OptimizerConfig,
): Pick<SegmentCost, "parameterBytes" | "stateBytes" | "frozenBytes" | "activationBytes"> {
  const { parameterBytes, activationBytes, parameters, frozenBytes, statistics } = segment;
  const infos = new Map(graph.inputs.map((info) => [info.name, info]));
  const size = (name: string) => byteLength(infos.get(name)!.dtype, infos.get(name)!.shape);
  const sum = (sizes: readonly number[]) => sizes.reduce((a, b) => a + b, 0);
  const stateBytes = sum(
    parameters.map((name) => stateNames(optimizer, infos.get(name)!).length * size(name)),
  );
  // As the last update left them and as micro-batches move them: once they are counted already.
  const second = sum(Object.keys(statistics).map(size));
  return { parameterBytes, stateBytes, frozenBytes: frozenBytes + second, activationBytes };
}

/** Most bytes of tensors in one message, unless a single one has more. */
const GROUP_BYTES = 256 * 2 ** 20;

/**
 * What a part holds and what the optimiser keeps of it, in groups that fit into messages, a parameter before what is kept
 * of it.
 * @param meets whether an outer optimiser keeps something too.
 */
export function heldInGroups({ held, roles }: Part, optimizer: OptimizerConfig, meets = false): string[][] {
  const trained = new Set(roles.parameters);
  const groups: string[][] = [];
  let room = 0;
  for (const info of held) {
    const kept = [...stateNames(optimizer, info), ...(meets ? outerStateNames(info) : [])];
    const names = trained.has(info.name) ? [info.name, ...kept] : [info.name];
    for (const name of names) {
      const bytes = byteLength(info.dtype, info.shape);
      if (groups.length === 0 || bytes > room) {
        groups.push([]);
        room = GROUP_BYTES;
      }
      groups.at(-1)!.push(name);
      room -= bytes;
    }
  }
  return groups;
}
