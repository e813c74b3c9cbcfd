/**
 * The plan of a run: which device holds which segments, with whom it shares their work and how, in which schedule, what
 * that is predicted to cost, and why each device is used or left out. Plain JSON, so that it can be printed, edited,
 * simulated and executed. How one is chosen is the planner's business (`planner.ts`).
 *
 * A plan is a pipeline of stages. A stage holds ranges of segments, one for each of its chunks, and has one member or
 * several, who share its work in one of the ways of `Sharing`. Data parallelism is a pipeline of one stage with several
 * members, pipeline parallelism is several stages of one member each, and everything between is hybrid.
 *
 * Words: a *position* is the place of a chunk in the order in which data passes them, 0 … n-1. A *worker* is one member
 * of one stage: one stage actor on one device, with one program. Workers are numbered stage after stage, member after
 * member. A member's place among those of its stage is its *rank*.
 */

import type { ShardKind } from "../../nn/shards/plan.ts";
import { ProgramError, type StageProgram } from "./program.ts";
import { type PipelineShape, SCHEDULES, type ScheduleName } from "./schedule.ts";

/** The strategies a plan can have; "auto" chooses among them. */
export const STRATEGIES = [
  "single",
  "data",
  "tensor",
  "sequence",
  "tensor-sequence",
  "pipeline",
  "hybrid",
  "local",
] as const;
export type Strategy = (typeof STRATEGIES)[number];

/**
 * How the members of a stage share its work.
 *
 * - data: each has the whole of the stage and takes some of the micro-batches; gradients are added up once a step.
 * - tensor: each has heads of attention and columns of feed-forward layers (Shoeybi et al., "Megatron-LM", 2019).
 * - sequence: each has the whole of the weights and some tokens of every sequence; keys and values are gathered (Li et
 *   al., "Sequence Parallelism", 2021).
 * - tensor-sequence: tensor, and by tokens in between (Korthikanti et al., 2022; Ye et al., "Galaxy", 2024).
 * - local: as data, but everyone updates its own weights, and they meet only now and then (Douillard et al., "DiLoCo",
 *   2023). Not the same result as one device's.
 */
export const SHARINGS = ["data", "tensor", "sequence", "tensor-sequence", "local"] as const;
export type Sharing = (typeof SHARINGS)[number];

/** Segments [from, to). */
export interface SegmentRange {
  readonly from: number;
  readonly to: number;
}

export interface PlanMember {
  /** Device id. */
  readonly device: string;
  readonly deviceName: string;
  /**
   * What part of the stage's work it has, as a weight beside the other members'. With data and local sharing it says how
   * many micro-batches (`microBatches` says which), else how heads, columns and tokens are divided.
   */
  readonly share: number;
  /** Those it takes, ascending. All of them where work inside a micro-batch is shared. */
  readonly microBatches: readonly number[];
  /** Predicted, of one micro-batch through all chunks, collectives within it included. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** What it holds of the parameters. */
  readonly parameterBytes: number;
  /** Predicted need: parameters, gradients, optimiser state and stashes of the micro-batches in flight. */
  readonly memoryBytes: number;
}

export interface PlanStage {
  /** Its index. */
  readonly stage: number;
  /** One for each chunk, in the order of the model. */
  readonly ranges: readonly SegmentRange[];
  /** Null for a stage of one member. */
  readonly sharing: Sharing | null;
  readonly members: readonly PlanMember[];
  /** Keep a chunk's input only, and repeat its forward pass when going backward. */
  readonly recompute: boolean;
}

export interface PlanDevice {
  readonly id: string;
  readonly name: string;
  readonly used: boolean;
  /** For people. */
  readonly reason: string;
  /** Predicted, of copies that it keeps at most, its own and others'; left out where there are none. */
  readonly copyBytes?: number;
}

/** Copies of what each stage holds that other devices keep. */
export interface PlanCopies {
  readonly asked: number;
  /** That there is room for. */
  readonly count: number;
  /** They are made of what every so many steps leave. */
  readonly every: number;
  /** Why there are fewer than asked for, in a few words; null where there are not. */
  readonly why: string | null;
}

/** Names of tensor codecs for what travels; null where it travels as it is. Anything else changes the result. */
export interface PlanCodecs {
  /** Activations and their gradients, between stages. */
  readonly activations: string | null;
  /** Gradients of parameters, between members of a stage. */
  readonly gradients: string | null;
}

export interface Plan {
  /** Tells plans for different models, devices or options apart. */
  readonly digest: string;
  readonly strategy: Strategy;
  readonly schedule: ScheduleName;
  readonly microBatches: number;
  readonly stages: readonly PlanStage[];
  /** So many positions at the beginning have nothing to train, and get no gradients. */
  readonly forwardOnly: number;
  /** With local sharing, steps between two meetings; else 1. */
  readonly localSteps: number;
  readonly codecs: PlanCodecs;
  readonly devices: readonly PlanDevice[];
  readonly predictedStepMs: number;
  /** Idle share of the used devices' time, 0 … 1. */
  readonly bubbleFraction: number;
  /** Left out where nobody asked for copies. */
  readonly copies?: PlanCopies;
  /** Predicted joules of a step, of all devices of the plan that are used; null where nobody knows their power. */
  readonly predictedJoules: number | null;
}

/** One member of one stage. */
export interface Worker {
  /** Its number. */
  readonly worker: number;
  readonly stage: PlanStage;
  /** Its place among the members of the stage. */
  readonly rank: number;
  readonly member: PlanMember;
  /** The stage's chunks by their place in the model, in the order of its ranges. */
  readonly positions: readonly number[];
}

/** All ranges of a plan in the order of the model: index is position. */
export function chunksOf(plan: Pick<Plan, "stages">): readonly SegmentRange[] {
  return plan.stages.flatMap(({ ranges }) => ranges).sort((a, b) => a.from - b.from);
}

/** The workers of a plan; index is number. */
export function workersOf(plan: Pick<Plan, "stages">): readonly Worker[] {
  const chunks = chunksOf(plan);
  return plan.stages
    .flatMap((stage) => {
      const positions = stage.ranges.map((range) => chunks.indexOf(range));
      return stage.members.map((member, rank) => ({ stage, rank, member, positions }));
    })
    .map((rest, worker) => ({ worker, ...rest }));
}

/** Whether work inside a micro-batch is shared, so that all members of the stage take every one. */
export function isSharded(sharing: Sharing | null): sharing is ShardKind {
  return sharing === "tensor" || sharing === "sequence" || sharing === "tensor-sequence";
}

/** What a schedule has to know of a plan. */
export function shapeOf(plan: Pick<Plan, "stages" | "microBatches" | "forwardOnly">): PipelineShape {
  const { microBatches, forwardOnly } = plan;
  const chunks = chunksOf(plan);
  const stages = plan.stages.map(({ ranges, sharing, members }) => ({
    positions: ranges.map((range) => chunks.indexOf(range)),
    sharing,
    members: members.map((member) => member.microBatches),
  }));
  return { microBatches, forwardOnly, stages };
}

/** Of plans that are there: with a loss programs are asked for by whoever counts memory and by whoever tells all. */
const programsKnown = new WeakMap<Plan, readonly StageProgram[]>();

/** The programs of a plan's workers. @throws ProgramError where the plan's schedule is not made for its stages. */
export function planPrograms(plan: Plan): readonly StageProgram[] {
  let programs = programsKnown.get(plan);
  if (!programs) {
    programs = programsOf(plan);
    programsKnown.set(plan, programs);
  }
  return programs;
}

function programsOf(plan: Plan): readonly StageProgram[] {
  const shared = plan.stages.find(({ sharing }) => isSharded(sharing));
  if (shared && plan.schedule === "zero-bubble") {
    throw new ProgramError(
      `zero-bubble makes a backward pass in two parts, members of stage ${shared.stage} with sharing "${shared.sharing}" ` +
        "make theirs in one: use 1f1b",
    );
  }
  return SCHEDULES[plan.schedule](shapeOf(plan));
}

/** Why a device is not used that was lost. */
export const GONE = "left out: it is gone";

/** Whether a device is a member of one of a plan's stages. */
export function usesDevice({ stages }: Plan, device: string): boolean {
  return stages.some(({ members }) => members.some((member) => member.device === device));
}

/** Device ids, by worker. */
export function devicesOf(plan: Plan): string[] {
  return workersOf(plan).map(({ member }) => member.device);
}
