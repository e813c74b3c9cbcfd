/** Shapes of operators that rearrange, join or cut. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import { GraphError, type Node } from "../graph.ts";
import {
  broadcast,
  constantInts,
  constantNumber,
  describe,
  intAttribute,
  intsAttribute,
  normalAxis,
  type Rules,
} from "./rule.ts";

export const layoutShapes: Rules = {
  Reshape: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const keepZero = intAttribute(node, "allowzero", 0) === 1;
    const wanted = constantInts(node, constant, 1).map((dim, i) =>
      dim === 0 && !keepZero ? shape[i]! : dim,
    );
    const known = wanted.filter((dim) => dim !== -1).reduce((a, b) => a * b, 1);
    const result = wanted.map((dim) => (dim === -1 ? elements(shape) / known : dim));
    if (elements(result) !== elements(shape)) {
      throw new GraphError(`${describe(node)}: [${shape}] does not reshape to [${wanted}]`);
    }
    return [{ dtype, shape: result }];
  },
  Transpose: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const perm = intsAttribute(node, "perm") ?? shape.map((_, i) => shape.length - 1 - i);
    if (shape.some((_, axis) => !perm.includes(axis)) || perm.length !== shape.length) {
      throw new GraphError(`${describe(node)}: [${perm}] is no permutation of the axes of [${shape}]`);
    }
    return [{ dtype, shape: perm.map((axis) => shape[axis]!) }];
  },
  Unsqueeze: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const given = constantInts(node, constant, 1);
    const rank = shape.length + given.length;
    const axes = given.map((axis) => normalAxis(axis, rank));
    const rest = [...shape];
    return [{ dtype, shape: Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : rest.shift()!)) }];
  },
  Squeeze: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const axes = has(1)
      ? constantInts(node, constant, 1).map((axis) => normalAxis(axis, shape.length))
      : undefined;
    return [{ dtype, shape: shape.filter((dim, i) => (axes ? !axes.includes(i) : dim !== 1)) }];
  },
  Expand: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    return [{ dtype, shape: broadcast(shape, constantInts(node, constant, 1), describe(node)) }];
  },
  Concat: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    const others = (part: Shape) => part.filter((_, i) => i !== axis).join();
    const total = node.inputs.reduce((sum, _, i) => {
      const part = input(i).shape;
      if (part.length !== shape.length || others(part) !== others(shape)) {
        throw new GraphError(`${describe(node)}: [${shape}] and [${part}] differ off axis ${axis}`);
      }
      return sum + part[axis]!;
    }, 0);
    return [{ dtype, shape: shape.map((dim, i) => (i === axis ? total : dim)) }];
  },
  Split: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    const size = shape[axis]!;
    // Without sizes the parts are equal, but for the last, which may be smaller.
    const chunk = Math.ceil(size / node.outputs.length);
    const parts = has(1)
      ? constantInts(node, constant, 1)
      : node.outputs.map((_, i) => Math.min(chunk, size - i * chunk));
    if (parts.reduce((sum, part) => sum + part, 0) !== size) {
      throw new GraphError(`${describe(node)}: parts [${parts}] do not make up axis ${axis} of [${shape}]`);
    }
    return parts.map((part) => ({ dtype, shape: shape.map((dim, i) => (i === axis ? part : dim)) }));
  },
  Slice: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const [starts, ends] = [constantInts(node, constant, 1), constantInts(node, constant, 2)];
    const axes = has(3) ? constantInts(node, constant, 3) : undefined;
    const steps = has(4) ? constantInts(node, constant, 4) : undefined;
    const result = [...shape];
    for (const { axis, count } of sliceCuts(node, shape, starts, ends, axes, steps)) result[axis] = count;
    return [{ dtype, shape: result }];
  },
  Trilu: ({ node, input }) => {
    const { dtype, shape } = input(0);
    if (shape.length < 2) throw new GraphError(`${describe(node)}: [${shape}] has no matrices`);
    return [{ dtype, shape }];
  },
  CumSum: ({ node, input, constant }) => {
    const { shape } = input(0);
    if (constant(1)) checkedAxis(node, constantNumber(node, constant, 1), shape);
    return [input(0)];
  },
  Flatten: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 1), shape.length);
    if (axis < 0 || axis > shape.length) throw new GraphError(`${describe(node)}: no axis ${axis}`);
    return [{ dtype, shape: [elements(shape.slice(0, axis)), elements(shape.slice(axis))] }];
  },
  Tile: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const repeats = constantInts(node, constant, 1);
    if (repeats.length !== shape.length) {
      throw new GraphError(`${describe(node)}: ${repeats.length} repeats for the axes of [${shape}]`);
    }
    return [{ dtype, shape: shape.map((dim, i) => dim * repeats[i]!) }];
  },
  Pad: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const axes = has(3) ? constantInts(node, constant, 3) : undefined;
    const { before, after } = padAmounts(node, shape, constantInts(node, constant, 1), axes);
    return [{ dtype, shape: shape.map((dim, i) => Math.max(0, before[i]! + dim + after[i]!)) }];
  },
  DepthToSpace: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const size = intAttribute(node, "blocksize", 1);
    const [n, c, h, w] = shape;
    if (shape.length !== 4 || c! % (size * size) !== 0) {
      throw new GraphError(`${describe(node)}: [${shape}] has no channels for blocks of ${size} by ${size}`);
    }
    return [{ dtype, shape: [n!, c! / (size * size), h! * size, w! * size] }];
  },
  SpaceToDepth: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const size = intAttribute(node, "blocksize", 1);
    const [n, c, h, w] = shape;
    if (shape.length !== 4 || h! % size !== 0 || w! % size !== 0) {
      throw new GraphError(`${describe(node)}: [${shape}] does not divide into blocks of ${size} by ${size}`);
    }
    return [{ dtype, shape: [n!, c! * size * size, h! / size, w! / size] }];
  },
  /** Only between transformations: it is written out before anything runs. */
  Dropout: ({ input }) => [input(0), { dtype: "bool", shape: input(0).shape }],
};

/** Elements that a Pad adds (or, below zero, takes away) in front of and behind each axis. */
export function padAmounts(
  node: Node,
  shape: Shape,
  pads: readonly number[],
  axes: readonly number[] = shape.map((_, i) => i),
): { before: number[]; after: number[] } {
  if (pads.length !== 2 * axes.length) {
    throw new GraphError(
      `${describe(node)}: ${pads.length} pads for ${axes.length} axes, two each are needed`,
    );
  }
  const [before, after] = [shape.map(() => 0), shape.map(() => 0)];
  axes.forEach((given, i) => {
    const axis = checkedAxis(node, given, shape);
    before[axis] = pads[i]!;
    after[axis] = pads[i + axes.length]!;
  });
  return { before, after };
}

/** A Slice along one axis: `count` elements from `start`, by `step`. */
export interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

/** What a Slice takes of each axis it names; starts and ends beyond an axis are moved onto it. */
export function sliceCuts(
  node: Node,
  shape: Shape,
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[] = starts.map((_, i) => i),
  steps: readonly number[] = starts.map(() => 1),
): Cut[] {
  return axes.map((given, i) => {
    const axis = checkedAxis(node, given, shape);
    const [size, step] = [shape[axis]!, steps[i]!];
    if (step === 0) throw new GraphError(`${describe(node)}: a step of 0`);
    // A backward slice may end before element 0, a forward one may start after the last.
    const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
    const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + size : at, low), high);
    const start = clamp(starts[i]!);
    return { axis, start, step, count: Math.max(0, Math.ceil((clamp(ends[i]!) - start) / step)) };
  });
}

/** @throws GraphError when the shape has no such axis. */
function checkedAxis(node: Node, given: number, shape: Shape): number {
  const axis = normalAxis(given, shape.length);
  if (axis < 0 || axis >= shape.length) {
    throw new GraphError(`${describe(node)}: [${shape}] has no axis ${given}`);
  }
  return axis;
}
