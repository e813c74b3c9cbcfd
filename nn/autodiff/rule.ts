/**
 * What a gradient rule is. A rule belongs to one operator and says how the operator is written when its gradient
 * is wanted, and what the gradient of each input is, as nodes appended to the same graph.
 *
 * Rules are written for the runtime that will execute them: where ONNX Runtime has a slow and a fast spelling of
 * the same arithmetic, the rule uses the fast one. There is one spelling for all engines and all cuts of a model,
 * because another spelling is another rounding.
 */

import { elements, type Shape } from "../../protocols/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { float, type Node } from "../onnx/graph.ts";
import { filledTensor } from "../onnx/numbers.ts";

/** Values a rule's forward part leaves for its backward part, by a name private to the rule. */
export type Saved = Readonly<Record<string, string>>;

export interface BackwardSite {
  readonly builder: GraphBuilder;
  readonly node: Node;
  /** Gradient of output `index`; undefined when nothing downstream depends on it. */
  readonly gradient: (index: number) => string | undefined;
  /** Whether the gradient of input `index` is wanted: parameters and what depends on them, not token ids. */
  readonly wants: (index: number) => boolean;
  readonly saved: Saved;
}

/** What every rule may say of itself. */
interface Described {
  /** For the table of operators: what has no gradient or is refused, in a few words; left out when nothing is. */
  readonly limits?: string;
  /** For the table of operators: how it is written when that is not the operator itself, in a few words. */
  readonly spelling?: string;
}

/** An operator whose gradient is written by hand. */
export interface DirectRule extends Described {
  /**
   * Writes the operator in the form that training wants, with the same outputs; left out, the node stays as it is.
   * Returns the extra values that `backward` reads.
   */
  readonly forward?: (builder: GraphBuilder, node: Node) => Saved;
  /** Appends the backward nodes; returns the gradient of each input, undefined where there is none. */
  readonly backward: (site: BackwardSite) => readonly (string | undefined)[];
}

/** An operator that is written in terms of others where its gradient is wanted; theirs make its own. */
export interface CompositeRule extends Described {
  /** Writes nodes that make the same outputs, by the same names. They may be composite themselves. */
  readonly expand: (builder: GraphBuilder, node: Node) => void;
  /** Whether it is written out wherever it stands, as ONNX Runtime lacks the operator in our opset. */
  readonly always?: true;
}

export type GradientRule = DirectRule | CompositeRule;

/** The rule of an operator that is constant wherever it is continuous: nothing flows back through it. */
export const FLAT: GradientRule = { limits: "its gradient is zero", backward: () => [] };

/** Sums a gradient over the axes along which a value of `shape` had been broadcast. */
export function unbroadcast(builder: GraphBuilder, gradient: string, shape: Shape): string {
  const from = builder.shape(gradient);
  const lead = from.length - shape.length;
  const summed = from.map((_, i) => i).filter((i) => i < lead || (shape[i - lead] === 1 && from[i] !== 1));
  if (summed.length === 0) return gradient;
  if (from.length === 2 && shape.length === 1 && from[1] === shape[0]) return columnSum(builder, gradient);
  const suffix = from.slice(summed.length);
  if (summed.at(-1) === summed.length - 1 && elements(suffix) > 1) {
    // Whole leading axes: the rows of a matrix. 0.8 of the time of a ReduceSum over two axes of [8, 64, 256].
    const matrix = builder.op("Reshape", [gradient, builder.ints([-1, elements(suffix)])]);
    const sum = columnSum(builder, matrix);
    return suffix.length === 1 && shape.length === 1
      ? sum
      : builder.op("Reshape", [sum, builder.ints(shape)]);
  }
  const keepdims = summed.length === lead ? 0 : 1;
  const sum = builder.op("ReduceSum", [gradient, builder.ints(summed)], { keepdims });
  return builder.shape(sum).length === shape.length ? sum : builder.op("Reshape", [sum, builder.ints(shape)]);
}

/**
 * Sum of a matrix [M, N] over its rows, [N], as the product of a row of ones with it: reads the matrix once and is
 * faster than a ReduceSum over the first axis.
 */
export function columnSum(builder: GraphBuilder, matrix: string): string {
  const { dtype, shape } = builder.type(matrix);
  const [rows, columns] = shape as [number, number];
  const ones = builder.constant(`const.ones.${dtype}.${rows}`, filledTensor(dtype, [1, rows], 1));
  const sum = builder.op("Gemm", [ones, matrix], { alpha: float(1), beta: float(0) });
  return builder.op("Reshape", [sum, builder.ints([columns])]);
}
