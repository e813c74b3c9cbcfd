/**
 * A chunk of a model as one of several ranks trains it: its part of the plan, and the graphs of its phases. Plain data;
 * `executor.ts` runs it. The counterpart of `trainingGraphs`, for a chunk whose work inside a micro-batch is shared.
 */

import type { ChunkValues } from "../chunk-executor.ts";
import { COUNTERS, type Roles, rolesWithin } from "../model.ts";
import { type Graph, GraphError, type ValueInfo } from "../onnx/graph.ts";
import type { OptimizerConfig } from "../optim/optimizer.ts";
import { type StageOptions, tieGroups } from "../training.ts";
import type { ShardPlan } from "./plan.ts";
import { type ShardOptions, shard } from "./shard.ts";
import { type PhaseGraphs, phaseGraphs } from "./train.ts";

export interface ShardChunkOptions
  extends Omit<ShardOptions, "input" | "inputGradient">,
    Pick<StageOptions, "input" | "output" | "inputGradient" | "recompute" | "stashBytes"> {
  /** Which of the ranks. */
  readonly rank: number;
}

export interface ShardChunk {
  readonly plan: ShardPlan;
  readonly rank: number;
  readonly values: ChunkValues;
  readonly phases: readonly PhaseGraphs[];
}

/**
 * @param graph the chunk's forward graph, as `cutGraph` returns it.
 * @throws GraphError for a chunk that does not shard so, naming the node and the reason.
 */
export function shardChunk(graph: Graph, roles: Roles, options: ShardChunkOptions): ShardChunk {
  const { rank, input, output, recompute, stashBytes = 0 } = options;
  const own = rolesWithin(roles, graph);
  const [statistic] = Object.keys(own.statistics);
  if (statistic) {
    throw new GraphError(
      `graph ${graph.name} cannot be sharded: "${statistic}" moves with every micro-batch; use data or pipeline parallelism`,
    );
  }
  const plan = shard(graph, roles, options);
  requireF32(plan);
  let budget = recompute ? stashBytes : Number.POSITIVE_INFINITY;
  const phases = plan.phases.map((phase) => {
    const graphs = phaseGraphs(plan, phase, rank, budget);
    budget -= graphs.stashBytes;
    return graphs;
  });
  const types = new Map(
    plan.phases.flatMap(({ graphs }) => graphs[rank]!.inputs.map((info) => [info.name, info])),
  );
  const held = (trained: boolean): ValueInfo[] =>
    Object.entries(plan.holdings).flatMap(([name, { gradient }]) => {
      const info = types.get(name);
      return info && (gradient !== null) === trained ? [info] : [];
    });
  const known = new Set([...Object.keys(plan.holdings), ...COUNTERS, ...(input === null ? [] : [input])]);
  const parameters = held(true);
  const names = parameters.map(({ name }) => name);
  const [result] = plan.outputs as [ShardPlan["outputs"][0]];
  return {
    plan,
    rank,
    phases,
    values: {
      parameters,
      frozen: held(false),
      statistics: [],
      data: graph.inputs.filter(({ name }) => !known.has(name)),
      ties: tieGroups(own.ties, names),
      ...{ input, output, result: result.name },
      inputGradient: plan.input?.trained ?? false,
      outputGradient: output !== null && result.trained,
      backwardWeights: null,
    },
  };
}

/** Ranks add up, and send each other, numbers in f32. */
function requireF32({ name, phases, transfers, input, outputs }: ShardPlan): void {
  const moved = [...phases.flatMap((phase) => phase.transfers), ...transfers].filter(
    ({ forward, backward }) => forward || backward,
  );
  const ends = [...(input ? [input] : []), ...outputs].filter(({ cut }) => cut);
  const wrong = [...moved, ...ends].find(({ dtype }) => dtype !== "f32");
  if (!wrong) return;
  throw new GraphError(
    `graph ${name} cannot be sharded: "${wrong.name}" goes between ranks and is ${wrong.dtype}, only f32 does; use data or pipeline parallelism`,
  );
}

/** @throws GraphError for an optimiser that wants whole matrices where ranks have parts of them. */
export function requireElementwise({ holdings, kind }: ShardPlan, optimizer: OptimizerConfig): void {
  if (optimizer.kind !== "muon") return;
  const cut = Object.entries(holdings).find(([, { cut, gradient }]) => cut && gradient !== null);
  if (!cut) return;
  throw new GraphError(
    `muon orthogonalises whole matrices, and with ${kind} sharing a rank has a part of "${cut[0]}"; use adamw, lion or sgd, or share by data or sequence`,
  );
}
