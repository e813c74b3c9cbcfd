/** Shapes of operators that rearrange, join or cut. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import { GraphError } from "../graph.ts";
import {
  broadcast,
  constantInts,
  describe,
  intAttribute,
  intsAttribute,
  normalAxis,
  type Rules,
  same,
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
    const axes = has(3) ? constantInts(node, constant, 3) : starts.map((_, i) => i);
    const steps = has(4) ? constantInts(node, constant, 4) : starts.map(() => 1);
    const result = [...shape];
    axes.forEach((raw, i) => {
      const axis = normalAxis(raw, shape.length);
      const [size, step] = [shape[axis]!, steps[i]!];
      // A backward slice may end before element 0, a forward one may start after the last.
      const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
      const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + size : at, low), high);
      result[axis] = Math.max(0, Math.ceil((clamp(ends[i]!) - clamp(starts[i]!)) / step));
    });
    return [{ dtype, shape: result }];
  },
  Trilu: same,
};
