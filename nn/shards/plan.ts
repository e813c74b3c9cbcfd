/**
 * A sharded segment as plain data: what each rank holds and runs, and what they send each other between its runs.
 *
 * A forward pass is: for each phase its transfers, in order, then its graph; then the last transfers. A backward pass
 * is the same from the end. A value of a rank that several phases read has several gradients, which are added.
 */

import type { Shape } from "../../protocols/tensor.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import type { Cut } from "./layout.ts";

/**
 * The ways to share the work inside a micro-batch, of which `shard.ts` says what each is.
 * @see `Sharing` of a plan, which has them by the same names.
 */
export const SHARD_KINDS = ["tensor", "sequence", "tensor-sequence"] as const;
export type ShardKind = (typeof SHARD_KINDS)[number];

/** Between ranks. Sums are over all ranks; parts are joined, or taken, along the axis of a cut. */
export type Collective = "all-reduce" | "all-gather" | "reduce-scatter";

export interface Transfer extends ValueInfo {
  /** Value of every rank that goes in. `name` is that which comes out; type and shape are of the whole. */
  readonly value: string;
  /** Null where every rank passes its own `value` on. */
  readonly forward: Collective | null;
  /**
   * From the gradients of `name` to those of `value`. Null where every rank passes its own on, or, behind an
   * all-gather, its part of it; and where there are none.
   */
  readonly backward: Collective | null;
  /** How the whole is cut; null for an all-reduce. */
  readonly cut: Cut | null;
  /** Whether there is a gradient. */
  readonly trained: boolean;
  /** Of the whole: what a collective is about. `collectiveBytes` says what of it a rank has to send. */
  readonly bytes: number;
}

export interface Phase {
  /** Done before it. */
  readonly transfers: readonly Transfer[];
  /** The forward graph of each rank. Its inputs are held values, data, results of transfers, and values of earlier phases. */
  readonly graphs: readonly Graph[];
  /** Inputs, other than parameters, and outputs that have gradients. */
  readonly trained: readonly string[];
}

/** How a parameter or a frozen value is held. */
export interface Holding {
  /** Of the whole. */
  readonly shape: Shape;
  /** Null where every rank holds the whole. */
  readonly cut: Cut | null;
  /**
   * What each rank's gradient is: that of its part; the whole, equal on all ranks; or a summand of the whole, to be
   * added up over the ranks before an update. Null where it is frozen.
   */
  readonly gradient: "part" | "whole" | "sum" | null;
}

/** A value at an end of the segment: whole on all ranks, or cut. Type and shape are of the whole. */
export interface End extends ValueInfo {
  readonly cut: Cut | null;
  /** Whether there is a gradient. */
  readonly trained: boolean;
}

/** What ranks do together: a collective, and what it is about. `collectiveBytes` says what of it each has to send. */
export interface CollectiveUse {
  readonly op: Collective;
  /** Of the whole value. */
  readonly bytes: number;
  /** What each rank has of it, in any unit: in an all-reduce, where each sums up a part, they are equal. */
  readonly sizes: readonly number[];
}

export interface RankCost {
  /**
   * Of one forward pass over one micro-batch; a multiplication and an addition count as two. Products alone count, so time
   * is divided less than this, most of all by tensor, where all ranks do the same norms and sums. Of what the kernels of
   * two GPT blocks take whole, each of two ranks with half of the operations takes, on one thread of ONNX Runtime, 0.59 by
   * tensor, 0.54 by sequence and 0.55 by both at a width of 128 and 512 rows; of one block 0.54, 0.51 and 0.50 at 512.
   */
  readonly flops: number;
  readonly parameterBytes: number;
  readonly frozenBytes: number;
}

export interface ShardPlan {
  /** Of the graph. */
  readonly name: string;
  readonly kind: ShardKind;
  readonly ranks: number;
  readonly phases: readonly Phase[];
  /** Done after the last phase. */
  readonly transfers: readonly Transfer[];
  readonly holdings: Readonly<Record<string, Holding>>;
  /** How the incoming activation, and its gradient, is to lie; null where there is none. */
  readonly input: End | null;
  /** The graph's outputs, in its order. Gradients of them come in as the values lie. */
  readonly outputs: readonly End[];
  readonly costs: readonly RankCost[];
  /**
   * The collectives of one micro-batch, in their order, where the ends of the segment are whole on all ranks: what comes
   * in cut is taken of the whole, and its gradient is gathered; what leaves is gathered, and of its gradient each takes
   * its part.
   */
  readonly forward: readonly CollectiveUse[];
  readonly backward: readonly CollectiveUse[];
  /** Bytes of the values that they are about. */
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  /** Bytes of the gradients that are added up over the ranks, once in a step. */
  readonly gradientBytes: number;
}

/**
 * Bytes that a rank sends in a collective over a value of `bytes`, as a ring does it, which is the least possible
 * (Patarasu and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
 * @param sizes what each rank has of the value, in any unit.
 */
export function collectiveBytes(
  op: Collective,
  bytes: number,
  sizes: readonly number[],
  rank: number,
): number {
  const total = sizes.reduce((a, b) => a + b, 0);
  const share = (at: number) => (bytes * sizes[(at + sizes.length) % sizes.length]!) / total;
  // Gathering, all parts go round but the next rank's own; scattering, all sums but that which ends here.
  const gathered = bytes - share(rank + 1);
  const scattered = bytes - share(rank);
  return { "all-gather": gathered, "reduce-scatter": scattered, "all-reduce": gathered + scattered }[op];
}
