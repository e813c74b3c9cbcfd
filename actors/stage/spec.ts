/** What is said to a stage and what it answers: plain data, sent between its device and the scheduler. */

import type { UpdateResult } from "../../nn/executor.ts";
import type { Roles } from "../../nn/model.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import type { Cut } from "../../nn/shards/layout.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Holding } from "../recovery/ledger.ts";
import type { PlanCodecs, Sharing } from "../scheduler/plan.ts";
import type { MicroBatchOperation, StageProgram } from "../scheduler/program.ts";
import { type PackedProgram, packed, unpacked } from "./packed.ts";

/** Workers by micro-batch; of those alone that have any. */
export type ByMicroBatch = Readonly<Record<number, readonly number[]>>;

/** One chunk: a range of segments, and with whom the stage exchanges what goes in and comes out of it. */
export interface ChunkSpec {
  /** Its forward graph, of the whole model's shapes: the bytes of an ONNX file, u8. */
  readonly graph: Tensor;
  /** What the graph's inputs are. */
  readonly roles: Roles;
  /** Activation that comes in, and that goes out; null at the model's ends. */
  readonly input: string | null;
  readonly output: string | null;
  /** Whether the position before wants a gradient. */
  readonly inputGradient: boolean;
  /** Whether backward passes of the stage are in two: also where its own program has none. */
  readonly split: boolean;
  /**
   * Workers that are given the activation of each micro-batch, and the gradient of `input`; the stage itself, and nobody
   * else, where it holds that position too.
   */
  readonly next: ByMicroBatch;
  readonly previous: ByMicroBatch;
  /** Workers that want the gradients of its parameters that are tied to others, by name. */
  readonly tied: Readonly<Record<string, readonly number[]>>;
}

/** The members of a stage, of whom this is one. */
export interface GroupSpec {
  /** Null where there is one member. */
  readonly sharing: Sharing | null;
  /** Its place among them. */
  readonly rank: number;
  /** Workers by rank. */
  readonly workers: readonly number[];
  /** What part of the work each has, by rank. */
  readonly shares: readonly number[];
  /** Where micro-batches are dealt to them, what tells one dealing from another; empty elsewhere. */
  readonly dealt: string;
}

/** Everything a stage is made from. Plain data, sent to the device that hosts it. */
export interface StageSpec {
  readonly generation: number;
  readonly program: StageProgram;
  readonly microBatches: number;
  /** In the order of the program's positions. */
  readonly chunks: readonly ChunkSpec[];
  readonly group: GroupSpec;
  readonly codecs: PlanCodecs;
  /**
   * Whether it keeps what it sends in a step, and in those since the one that others have copies of, so that a step can go on
   * where others have been lost and replaced.
   */
  readonly keepsSent: boolean;
  /**
   * Whether it keeps its gradients as they were before they were added up over members, so that a step can go on where some
   * have been lost and not replaced.
   */
  readonly keepsSummands: boolean;
  readonly recompute: boolean;
  /** With `recompute`, bytes of each micro-batch to keep all the same. */
  readonly stashBytes: number;
  readonly optimizer: OptimizerConfig;
  /** Parameters of the whole model. */
  readonly totalParameters: number;
  /** What randomness in the graph is drawn from. */
  readonly seed: number;
}

/** What of a spec may become another while its stage stays: who has which micro-batches, and where the others are. */
type Dealt = "generation" | "program" | "group" | "keepsSent" | "keepsSummands";
type DealtChunk = Pick<ChunkSpec, "next" | "previous" | "tied">;

/** That, as it is sent. */
export interface Dealing extends Pick<StageSpec, Exclude<Dealt, "program">> {
  readonly program: PackedProgram;
  readonly chunks: readonly DealtChunk[];
}

export function dealingOf(spec: StageSpec): Dealing {
  const { generation, program, group, keepsSent, keepsSummands } = spec;
  const chunks = spec.chunks.map(({ next, previous, tied }) => ({ next, previous, tied }));
  return { generation, program: packed(program), group, keepsSent, keepsSummands, chunks };
}

/** Whether both are of the same micro-batches, by the same programs. */
export function isSameDealing({ generation: _, ...a }: Dealing, { generation: __, ...b }: Dealing): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Whether a stage that is told the second in place of the first has the same to do, with the same members: others alone have
 * other numbers and micro-batches. What it has begun goes on then, and so does what its members add up.
 */
export function isSameWork(a: StageSpec, b: StageSpec): boolean {
  const workOf = ({ program, group, keepsSent, keepsSummands }: StageSpec) => {
    const { worker: _, ...work } = program;
    const { workers: __, ...members } = group;
    return JSON.stringify([work, members, keepsSent, keepsSummands]);
  };
  return workOf(a) === workOf(b);
}

/** A spec as another dealing makes it. */
export function dealtAnew(spec: StageSpec, { program, ...dealing }: Dealing): StageSpec {
  return dealtAs(spec, { ...dealing, program: unpacked(program) });
}

/** A spec as the dealing of another one makes it. */
export function dealtAs(
  spec: StageSpec,
  other: Pick<StageSpec, Dealt> & { readonly chunks: readonly DealtChunk[] },
): StageSpec {
  const { generation, program, group, keepsSent, keepsSummands } = other;
  const chunks = spec.chunks.map((chunk, i): ChunkSpec => {
    const { next, previous, tied } = other.chunks[i]!;
    return { ...chunk, next, previous, tied };
  });
  return { ...spec, generation, program, group, keepsSent, keepsSummands, chunks };
}

/** What a stage holds of the model. */
export interface StageHoldings {
  /** Names, in the order in which it reports their gradients' squares. */
  readonly parameters: readonly string[];
  /** Names of all that training changes: parameters, optimiser state, statistics. */
  readonly changing: readonly string[];
  /** Of those, as much as the stage holds of them. */
  readonly changingBytes: number;
  /** Of a step's gradients, where others can make copies by those that are given fewer bytes then; else null. */
  readonly gradientBytes: number | null;
  /** How those values are cut of which it has the part of its rank: parameters, frozen values, optimiser state. */
  readonly cuts: Readonly<Record<string, Cut>>;
}

/** Of values together. */
export function bytesOf(values: Readonly<Record<string, Tensor>>): number {
  return Object.values(values).reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
}

/**
 * Whether a stage sends what nothing comes back for: where it has nothing to train, no gradient says that its activations have
 * arrived.
 */
export function isUnanswered({ operations }: StageProgram): boolean {
  const has = (name: StageProgram["operations"][number]["op"]) => operations.some(({ op }) => op === name);
  return has("send-activation") && !has("receive-gradient");
}

/** Whether what training changes is changed before a step's commit already. Statistics are kept by the commit. */
export function updatesInPasses({ operations }: StageProgram): boolean {
  return operations.some(({ op }) => op === "update");
}

/** What has become of a stage that goes on in a further generation. */
export interface Resumed {
  /** Whether it holds what the step left that the run goes back to; else it is to be given that. */
  readonly holds: boolean;
  /** Whether it is ahead of the step behind that one, in the middle of it, or through with it, and can go on from there. */
  readonly midway: boolean;
  /** Whether a step was under way. */
  readonly busy: boolean;
}

/** What is to be known of a stage's copies wherever they are. */
export function holdingOf(
  { generation, program, group }: Pick<StageSpec, "generation" | "program" | "group">,
  { changing, cuts }: Pick<StageHoldings, "changing" | "cuts">,
): Holding {
  const { rank, workers, sharing } = group;
  return {
    ...{ worker: `${generation}/${program.worker}`, names: changing, cuts, rank },
    ...{ ranks: workers.length, apart: sharing === "local" },
  };
}

/**
 * When an operation ran, in milliseconds of the device's clock. A forward pass that reads data of its own waits for
 * it within its span, and one whose work is shared for the others. A reduction lies beside what ran meanwhile. "update"
 * is there twice: the sums of squares before the commit gate, the update behind it; or once for each micro-batch.
 */
export interface OperationSpan {
  readonly op: MicroBatchOperation["op"] | "reduce" | "update";
  readonly microBatch: number;
  /** Index into the program's `positions`; 0 when left out. */
  readonly chunk?: number;
  readonly start: number;
  readonly end: number;
  /** Of that in kernels; 0 for messages. */
  readonly kernelMs: number;
}

/** A run of the optimiser's graphs. */
export function updateSpan(start: number, end: number): OperationSpan {
  return { op: "update", microBatch: 0, start, end, kernelMs: end - start };
}

/** An update, and when what belongs to it ran. */
export interface CommitReport extends UpdateResult {
  readonly spans: readonly OperationSpan[];
}

/** What a stage has to say when it has all gradients of a step. */
export interface StepReport {
  /** One per parameter of the stage, chunk after chunk. */
  readonly squareSums: Tensor;
  /** Loss of every micro-batch, NaN of those it has not had; null unless it holds the end of the model. */
  readonly losses: readonly number[] | null;
  /**
   * Where the time went, in milliseconds: in kernels, copying tensors, waiting for inputs, waiting for those who share
   * its work, all in all.
   */
  readonly kernelMs: number;
  readonly copyMs: number;
  readonly waitMs: number;
  readonly reduceMs: number;
  readonly totalMs: number;
  readonly spans: readonly OperationSpan[];
}
