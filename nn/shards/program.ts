/**
 * A sharded graph, once for all ranks (single program, multiple data): nodes on values of which every rank has the
 * whole, a part or a summand, and transfers, which turn one into another. A node is in a phase; transfers are between
 * phases. What a rank runs is made from this by `rank.ts`.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Node, ValueType } from "../onnx/graph.ts";
import type { Layout, Part } from "./layout.ts";
import type { Labels } from "./units.ts";

export interface Value {
  readonly name: string;
  /** Of the whole. */
  readonly type: ValueType;
  readonly layout: Layout;
  /** The first phase in which it can be read: one behind that of the node that makes it, unless it is in the same. */
  readonly from: number;
  /** Whether a gradient flows through it. */
  readonly trained: boolean;
  /** Made from held values and constants alone, by every phase that reads it. */
  readonly fixed: boolean;
  /** A constant of the graph, whole. */
  readonly constant?: Tensor;
}

export interface Step {
  /** With the names of this program's values. */
  readonly node: Node;
  readonly phase: number;
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly (Value | undefined)[];
  /** The outputs are means of parts along this axis; they count by its length. */
  readonly mean?: Labels;
  /** The node stands for looking up the place of a class among the rank's own, and whether it is one of them. */
  readonly lookup?: Part;
  /** The node stands for taking this part of its whole input. */
  readonly take?: Part;
}

/**
 * What happens to a value between phases. The names are of what it does, forward and backward:
 * - share: nothing; all-reduce. A whole value that is read by ranks' own parts of a product (Megatron's f).
 * - gather: all-gather; every rank takes its part.
 * - gather-share: all-gather; reduce-scatter (Korthikanti et al.'s g).
 * - reduce: all-reduce; nothing (Megatron's g).
 * - scatter: reduce-scatter; all-gather (Korthikanti et al.'s ḡ).
 */
export type TransferKind = "share" | "gather" | "gather-share" | "reduce" | "scatter";

export interface Move {
  readonly kind: TransferKind;
  readonly from: Value;
  readonly to: Value;
  /** It is done before this phase. */
  readonly phase: number;
}

export interface Program {
  readonly steps: readonly Step[];
  readonly moves: readonly Move[];
  /** Inputs of the graph that are cut, by name. */
  readonly cuts: ReadonlyMap<string, Part>;
  /** Parameters of which every rank has the whole, and a part of the gradient. */
  readonly summed: ReadonlySet<string>;
  /** Outputs of the graph, in its order. */
  readonly outputs: readonly Value[];
  /** The incoming activation. */
  readonly input: Value | null;
}
