/**
 * What the workers of a plan cost, as the simulator wants it: numbers only, by worker and chunk, whatever they were
 * made from (`plan-cost.ts` makes them from profiles). Milliseconds and bytes, per micro-batch unless said otherwise.
 */

import type { Collective } from "../../nn/shards/plan.ts";
import type { LinkProfile } from "./cost.ts";
import type { Operation } from "./program.ts";

/** A collective within a pass through a chunk whose work inside a micro-batch is shared. */
export interface CollectiveCost {
  readonly op: Collective;
  /** Of the whole value that it is about; `collectiveBytes` says what of it a rank sends. */
  readonly bytes: number;
}

/** One chunk on one worker. */
export interface ChunkCost {
  /** Kernels only. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** Where B and W are apart; half the backward time each when left out. */
  readonly backwardInputMs?: number;
  readonly backwardWeightMs?: number;
  /** The optimiser's update, once per step. */
  readonly stepMs: number;
  /** The activation that goes out to the position behind; the gradient on its way back is as large. */
  readonly outputBytes: number;
  /** Of the gradients that a `reduce` adds up over the members of the stage, once per step. */
  readonly gradientBytes: number;
  /** Steps from one sum over the members to the next: a step has this part of one. 1 when left out. */
  readonly sumEvery?: number;
  /** Evenly spread over the kernels' time; none when left out. */
  readonly forwardCollectives?: readonly CollectiveCost[];
  readonly backwardCollectives?: readonly CollectiveCost[];
}

/** Milliseconds that the kernel of an operation takes; undefined of one that has none, or is no pass of a micro-batch. */
export function kernelMsOf(op: Operation["op"], cost: ChunkCost): number | undefined {
  const { forwardMs, backwardMs, backwardInputMs, backwardWeightMs } = cost;
  switch (op) {
    case "forward":
      return forwardMs;
    case "backward":
      return backwardMs;
    case "forward-backward":
      return forwardMs + backwardMs;
    case "backward-input":
      return backwardInputMs ?? backwardMs / 2;
    case "backward-weight":
      return backwardWeightMs ?? backwardMs / 2;
    default:
      return undefined;
  }
}

/** The way to and from a machine, whoever is at the other end. */
export interface NetworkInterface {
  /** The same number for workers on one machine; what they send each other does not pass here. */
  readonly machine: number;
  readonly upBytesPerMs: number;
  readonly downBytesPerMs: number;
}

export interface RunCost {
  /** `chunks[worker][chunk]`, in the order of the program's positions. */
  readonly chunks: readonly (readonly ChunkCost[])[];
  /** The directed link between two workers; `FREE_LINK` for one device. */
  link(from: number, to: number): LinkProfile;
  /** By worker, what all it sends to other machines goes through, and all it receives. When left out, links share nothing. */
  readonly interfaces?: readonly NetworkInterface[];
  /** Whether sums of gradients travel encoded. Not when left out. */
  readonly encodesSums?: boolean;
  /** At most this many kernels at once over all workers: devices that are processes of one machine. */
  readonly cores?: number;
}
