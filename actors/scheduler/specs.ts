/** What the workers of a plan are made from: the plan, the model's parts and the programs, as one spec for each. Pure. */

import type { Model } from "../../nn/model.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { encodeModel } from "../../nn/onnx/proto.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { sha256 } from "../../runtime/platform/hash.ts";
import { partnersOf } from "../collectives/tree-shape.ts";
import {
  type ByMicroBatch,
  type ChunkSpec,
  type GroupSpec,
  type StageSpec,
  updatesInPasses,
} from "../stage/spec.ts";
import { mayDeal } from "./dealt.ts";
import type { Part } from "./parts.ts";
import type { Plan, PlanStage, Worker } from "./plan.ts";
import { isSplit, type StageProgram } from "./program.ts";
import { isDealt, Routes } from "./routes.ts";

export interface SpecOptions {
  /** Counts deployments: what is left over from an earlier one is refused. */
  readonly generation: number;
  readonly model: Model;
  readonly optimizer: OptimizerConfig;
  readonly seed: number;
  readonly stashBytes: number;
  /** Whether the run goes on when devices are lost. */
  readonly recovers?: boolean;
}

/**
 * @param parts of the model, by position. @param programs by worker.
 * @returns by worker.
 */
export function specsOf(
  plan: Plan,
  parts: readonly Part[],
  programs: readonly StageProgram[],
  { generation, model, optimizer, seed, stashBytes, recovers = false }: SpecOptions,
): StageSpec[] {
  const routes = new Routes(plan);
  const graphs = parts.map(({ graph }) => onnx(graph));
  const { microBatches, codecs } = plan;
  const keepsSent =
    recovers && routes.workers.length > 1 && isRepeatable(plan) && !programs.some(updatesInPasses);
  const keepsSummands = keepsSent && isDealable(plan, parts);
  const stages = new Map(
    [...Map.groupBy(routes.workers, ({ stage }) => stage)].map(([stage, own]) => [
      stage,
      { group: groupOf(stage, own), splits: splitsOf(stage, own, programs) },
    ]),
  );
  return routes.workers.map((worker): StageSpec => {
    const { stage, rank } = worker;
    const { group, splits } = stages.get(stage)!;
    const chunks = worker.positions.map((position, chunk): ChunkSpec => {
      const { roles, input, output, inputGradient } = parts[position]!;
      const split = splits[chunk]!;
      return {
        ...{ graph: graphs[position]!, roles, input, output, inputGradient, split },
        next: targets(routes, worker, position, position + 1, microBatches),
        previous: inputGradient ? targets(routes, worker, position, position - 1, microBatches) : {},
        tied: tiedOf(routes, worker, position, parts),
      };
    });
    return {
      ...{ generation, program: programs[worker.worker]!, microBatches, chunks, codecs },
      ...{ keepsSent, keepsSummands },
      group: { ...group, rank },
      ...{ recompute: stage.recompute, stashBytes, optimizer, seed },
      totalParameters: model.parameters.length,
    };
  });
}

/** What all members of a stage know of each other. */
function groupOf({ sharing }: PlanStage, members: readonly Worker[]): Omit<GroupSpec, "rank"> {
  const dealt = isDealt(sharing) ? members.map(({ member }) => member.microBatches) : [];
  return {
    sharing,
    workers: members.map(({ worker }) => worker),
    shares: members.map(({ member }) => member.share),
    dealt: dealt.length > 0 ? sha256([JSON.stringify(dealt)]) : "",
  };
}

/** By chunk, whether members of a stage have its backward passes in two: all that have any, and the others compile the same. */
function splitsOf(
  { ranges }: PlanStage,
  members: readonly Worker[],
  programs: readonly StageProgram[],
): boolean[] {
  return ranges.map((_, chunk) => members.some(({ worker }) => isSplit(programs[worker]!, chunk)));
}

/**
 * Whether another worker in the place of one comes to the very same by what is sent to it again. Not where members share
 * the work within a pass, or where what they give each other depends on what codecs have left out in earlier steps.
 */
export function isRepeatable({ stages, codecs }: Pick<Plan, "stages" | "codecs">): boolean {
  return stages.every(({ members, sharing }) => {
    return members.length === 1 || (isDealt(sharing) && codecs.gradients === null);
  });
}

/**
 * As `mayDeal`: not where passes depend on each other beyond their micro-batch, or stages on each other's sums, nor where the
 * plan has no room for copies.
 */
function isDealable(plan: Plan, parts: readonly Part[]): boolean {
  return (
    plan.copies?.count !== 0 &&
    mayDeal(plan) &&
    parts.every(({ roles, tied }) => {
      return Object.keys(roles.statistics).length === 0 && Object.keys(tied).length === 0;
    })
  );
}

/** A graph as the bytes of an ONNX file. */
export function onnx(graph: Graph): Tensor {
  const bytes = encodeModel(graph);
  return new Tensor("u8", [bytes.byteLength], bytes);
}

/** Numbers of all workers that a worker has to know. */
export function peersOf({ program, chunks, group }: StageSpec): Set<number> {
  const named = chunks.flatMap(({ next, previous, tied }) => [next, previous, tied].flatMap(Object.values));
  const peers = new Set([...named.flat(), ...besideIn(group)]);
  peers.delete(program.worker);
  return peers;
}

/** Those of its members that one gives something, or gets it from them. */
function besideIn({ sharing, rank, workers }: GroupSpec): readonly number[] {
  if (sharing !== "data") return workers;
  return partnersOf(rank, workers.length).map((partner) => workers[partner]!);
}

function targets(
  routes: Routes,
  worker: Worker,
  position: number,
  to: number,
  microBatches: number,
): ByMicroBatch {
  const { stage, member } = worker;
  const own = isDealt(stage.sharing) ? member.microBatches : [...Array(microBatches).keys()];
  const found: Record<number, readonly number[]> = {};
  // The last one first: room for all is made at once then.
  for (const microBatch of own.toReversed()) {
    const taking = routes.targets(worker, position, to, microBatch);
    if (taking.length > 0) found[microBatch] = taking.map((target) => target.worker);
  }
  return found;
}

function tiedOf(
  routes: Routes,
  worker: Worker,
  position: number,
  parts: readonly Part[],
): Record<string, number[]> {
  const entries = Object.entries(parts[position]!.tied).map(([name, others]): [string, number[]] => {
    const partners = others.flatMap((other) => routes.partners(worker, position, other));
    const numbers = new Set(partners.map((partner) => partner.worker));
    numbers.delete(worker.worker);
    return [name, [...numbers]];
  });
  return Object.fromEntries(entries);
}
