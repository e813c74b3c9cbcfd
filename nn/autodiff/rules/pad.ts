/**
 * The gradient of a Pad that repeats elements instead of adding zeros: what was copied out to the border is added
 * back to where it came from, one axis after the other.
 */

import type { Shape } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { describe } from "../../onnx/shapes.ts";
import { cut, flipped, padZeros } from "./pieces.ts";

/** Gradient of the border of `size` elements, at elements [at, at + length) of the axis. */
interface Fold {
  readonly at: number;
  readonly value: string;
}

/** dx of a Pad in the mode edge, reflect or wrap. @throws GraphError for another mode, or pads that wrap twice. */
export function padEdges(
  b: GraphBuilder,
  node: Node,
  mode: string,
  dy: string,
  shape: Shape,
  before: readonly number[],
  after: readonly number[],
): string {
  let dx = dy;
  shape.forEach((size, axis) => {
    const [front, back] = [before[axis]!, after[axis]!];
    if (front === 0 && back === 0) return;
    const most = { edge: Infinity, reflect: size - 1, wrap: size }[mode];
    if (most === undefined || Math.max(front, back) > most) {
      const known = `the modes constant, edge, reflect and wrap, the last two for pads within the axis`;
      throw new GraphError(
        `${describe(node)}: mode ${mode}, pads ${front} and ${back} of axis ${axis} of [${shape}]; known are ${known}`,
      );
    }
    const folds = [
      ...(front > 0 ? [folded(b, mode, cut(b, dx, axis, 0, front), axis, size, true)] : []),
      ...(back > 0 ? [folded(b, mode, cut(b, dx, axis, front + size, back), axis, size, false)] : []),
    ].map(({ at, value }) => {
      const none = b.shape(value).map(() => 0);
      const behind = size - at - b.shape(value)[axis]!;
      return padZeros(b, value, none.with(axis, at), none.with(axis, behind));
    });
    dx = folds.reduce((sum, fold) => b.op("Add", [sum, fold]), cut(b, dx, axis, front, size));
  });
  return dx;
}

/** Where a border's gradient goes, and in which order. */
function folded(
  b: GraphBuilder,
  mode: string,
  border: string,
  axis: number,
  size: number,
  front: boolean,
): Fold {
  const length = b.shape(border)[axis]!;
  if (mode === "edge") {
    const value = length === 1 ? border : b.op("ReduceSum", [border, b.ints([axis])], { keepdims: 1 });
    return { at: front ? 0 : size - 1, value };
  }
  if (mode === "wrap") return { at: front ? size - length : 0, value: border };
  return { at: front ? 1 : size - 1 - length, value: flipped(b, border, axis) };
}
