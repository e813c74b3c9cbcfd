/** What a shape rule is, and what all of them need: attributes, axes, broadcasting, constants. */

import type { Shape, Tensor } from "../../../protocols/tensor.ts";
import { GraphError, type Node, type ValueType } from "../graph.ts";
import { numbersOf } from "../numbers.ts";

/** What a rule sees: the node, the types of its inputs, and those inputs that are constants. */
export interface Site {
  readonly node: Node;
  readonly input: (index: number) => ValueType;
  readonly has: (index: number) => boolean;
  readonly constant: (index: number) => Tensor | undefined;
}

export type Rule = (site: Site) => readonly ValueType[];

/** Rules of a family, by operator. */
export type Rules = Readonly<Record<string, Rule>>;

/** A type in words: f32[2,3]. */
export const typeText = ({ dtype, shape }: ValueType): string => `${dtype}[${shape}]`;

export function describe(node: Node): string {
  return `${node.op} (${node.inputs.join(", ")}) -> (${node.outputs.join(", ")})`;
}

/** Shape that two shapes broadcast to, as in numpy. */
export function broadcast(a: Shape, b: Shape, where: string): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) throw new GraphError(`${where}: [${a}] and [${b}] do not broadcast`);
    return x === 1 ? y : x;
  });
}

/** An axis counted from the end made one counted from the front. */
export function normalAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Integers of a constant tensor, i64 or i32. @throws TensorError for another element type. */
export function integers(tensor: Tensor): number[] {
  return tensor.dtype === "i32" ? numbersOf(tensor) : Array.from(tensor.i64(), Number);
}

export function intAttribute(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name];
  return typeof value === "number" ? value : fallback;
}

export function intsAttribute(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) ? value : undefined;
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name];
  return typeof value === "object" && "float" in value ? value.float : fallback;
}

/** The type of the first input. */
export const same: Rule = ({ input }) => [input(0)];

/** Integers of a constant input. @throws GraphError when it is not constant. */
export function constantInts(node: Node, constant: Site["constant"], index: number): number[] {
  const tensor = constant(index);
  if (!tensor) throw new GraphError(`${describe(node)}: input ${index} must be a constant`);
  return integers(tensor);
}

/** The first number of a constant input. @throws GraphError when it is not constant. */
export function constantNumber(node: Node, constant: Site["constant"], index: number): number {
  const tensor = constant(index);
  return tensor?.dtype === "f32" ? tensor.f32()[0]! : constantInts(node, constant, index)[0]!;
}
