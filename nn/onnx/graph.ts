/**
 * The typed ONNX graph that all of `nn/` works on: plain data, in memory, with names for edges as in ONNX itself.
 *
 * A graph is a list of nodes in topological order. An edge is a value name; every name is produced once (SSA).
 * An omitted optional input or output is the empty string, as in ONNX. Shapes are static numbers: a graph is made
 * for the sizes it runs with. Graphs are treated as immutable: a transformation returns a new one.
 */

import type { DType, Shape, Tensor } from "../../protocols/tensor.ts";

export type Attribute =
  | number
  | string
  | readonly number[]
  | Tensor
  | FloatAttribute
  | FloatsAttribute
  | StringsAttribute;

/** A float attribute: ONNX tells 1 (int) from 1.0 (float), JavaScript does not, so floats are marked. */
export interface FloatAttribute {
  readonly float: number;
}

/** A list of floats, marked for the same reason. */
export interface FloatsAttribute {
  readonly floats: readonly number[];
}

/** A list of strings. */
export interface StringsAttribute {
  readonly strings: readonly string[];
}

/** Marks an attribute as a float, rounded to the 32 bits that a file holds: every reader computes with the same. */
export const float = (value: number): FloatAttribute => ({ float: Math.fround(value) });

export interface Node {
  readonly op: string;
  /** "" is the standard ONNX domain; ONNX Runtime's fused operators live in "com.microsoft". */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** The type of a value: what ONNX calls a tensor type, with a static shape. */
export interface ValueType {
  readonly dtype: DType;
  readonly shape: Shape;
}

export interface ValueInfo extends ValueType {
  readonly name: string;
}

export interface Graph {
  readonly name: string;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** Constants held by the graph. Parameters are inputs, never initializers: they change while training. */
  readonly initializers: ReadonlyMap<string, Tensor>;
  /** In topological order. */
  readonly nodes: readonly Node[];
}

/** A malformed graph, or an operator that a transformation does not know. */
export class GraphError extends Error {
  readonly code = "GRAPH";
  override readonly name = "GraphError";
}

/** The opset every graph is written in; `Gelu` and `LayerNormalization` with all its outputs need at least 20. */
export const OPSET = 20;

/** Domain of ONNX Runtime's fused operators, e.g. `FusedMatMul`. */
export const MICROSOFT = "com.microsoft";

/** Domain of operators of our own. They exist between transformations only: gradient rules write them out. */
export const TROUPE = "troupe";
