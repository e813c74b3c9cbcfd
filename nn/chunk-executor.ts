/**
 * What runs a chunk of a model on one device, as a stage sees it: whole (`StageExecutor`), or as one rank's part of the
 * work of several (`shards/executor.ts`). Activations and their gradients come in and leave whole in either; what ranks
 * do together between, and at the end of a step, goes by the `Collectives` that a stage hands in.
 *
 * A step is: for each micro-batch `place`, `write` of what it brings, `forward`, `backward` (or `joint`); `reduce`;
 * tied gradients with `gradient` and `putTied`; `squareSums`; and behind the gate `update`.
 */

import type { Tensor } from "../protocols/tensor.ts";
import type { Followed } from "./executor/follower.ts";
import type { UpdateResult } from "./executor.ts";
import type { Collectives } from "./shards/collectives.ts";
import type { Cut } from "./shards/layout.ts";
import type { StageGraphs } from "./training.ts";

/** The values of a chunk, and how it trains. Of what members share, each has the types of its own part. */
export type ChunkValues = Pick<
  StageGraphs,
  | "parameters"
  | "frozen"
  | "statistics"
  | "data"
  | "ties"
  | "input"
  | "output"
  | "result"
  | "inputGradient"
  | "outputGradient"
  | "backwardWeights"
>;

export interface ChunkExecutor {
  readonly graphs: ChunkValues;
  /** Of what `tensors` gives, how that is cut of which this member has a part; the rest it has whole. */
  readonly cuts: ReadonlyMap<string, Cut>;
  /** Says which micro-batch is about to be in `slot`. Both count from 0. */
  place(slot: number, step: number, microBatch: number): void;
  /** Runs the forward pass of the micro-batch in `slot`; resolves with kernel milliseconds. */
  forward(slot: number): Promise<number>;
  /** Runs the backward pass: gradients are added to the accumulators, the input's gradient is in the slot. */
  backward(slot: number): Promise<number>;
  /** The backward pass in two halves, where it is split. */
  backwardInput(slot: number): Promise<number>;
  backwardWeights(slot: number): Promise<number>;
  /** Forward and backward (last chunk only); the loss is in the slot. */
  joint(slot: number): Promise<number>;
  /** A value of the micro-batch in `slot`: an input to be written, or an output to be read. A view. */
  value(slot: number, name: string): Tensor;
  /** Whether micro-batches have a value of this name, in training. */
  has(name: string): boolean;
  /** Whether validation reads a value of this name. */
  evaluates(name: string): boolean;
  /** Copies an input of the micro-batch in `slot` to where its runs read it. @throws TensorError for another type. */
  write(slot: number, name: string, tensor: Tensor): void;
  /**
   * The forward pass outside training. All ranks evaluate the same, in the same order. A view.
   * @param key the same on all of them, where they may not have evaluated the same before.
   */
  evaluate(inputs: Readonly<Record<string, Tensor>>, key?: string): Promise<Tensor>;
  /**
   * Adds up, over the members of the stage, what each has of the gradients that have accumulated: all of them where
   * micro-batches are dealt, those of summands where work inside a micro-batch is shared. All members call it, once a
   * step, before `gradient` and `squareSums`.
   * @param key the same on all members, and of this step and chunk alone.
   */
  reduce(key: string, collectives: Collectives): Promise<void>;
  /** The gradients of a parameter that have added up so far; a view. */
  gradient(name: string): Promise<Tensor>;
  /** Takes the gradient of a tied parameter that another stage holds. */
  putTied(name: string, tensor: Tensor): Promise<void>;
  /**
   * Sum of squares of each parameter's accumulated gradient, in the order of `graphs.parameters`. Where work inside a
   * micro-batch is shared, those of this rank's parts, and 0 for what another rank speaks of: added up over the ranks
   * they are those of the whole.
   */
  squareSums(): Promise<Float32Array>;
  /** Updates what this member holds, and clears the accumulators. @param squareSums of all parameters of the model. */
  update(step: number, squareSums: Float32Array): Promise<UpdateResult>;
  /**
   * What others make the same update from who have what the step began with; null where it leaves more than that makes:
   * statistics that passes have moved, what members do when they meet.
   */
  followed(): Followed | null;
  /** Gradients as `update` goes by them, behind `squareSums`: of the parameters of `followed`, by name. Views. */
  summed(): Promise<ReadonlyMap<string, Tensor>>;
  /** Forgets what has been accumulated since the last update. */
  clearGradients(): Promise<void>;
  /** What training changes, by name, or those of `names` that there are: this member's parts, see `cuts`. Views. */
  tensors(names?: readonly string[]): Promise<Map<string, Tensor>>;
  /** Copies values in, as far as they are this chunk's: whole ones, or this member's parts of them. */
  load(values: ReadonlyMap<string, Tensor>): Promise<void>;
  /** As `load`, of a part of what the chunk holds. */
  put(values: ReadonlyMap<string, Tensor>): Promise<void>;
  /** @throws TensorError naming a parameter, frozen value or statistic that has not been loaded. */
  requireLoaded(): void;
  /** Kernel time by operator of all runs so far, when created with `profile`. */
  profile(): Promise<Map<string, number>>;
  /** Gives back everything that is held in the engine. No run may be in flight. */
  release(): void;
}
