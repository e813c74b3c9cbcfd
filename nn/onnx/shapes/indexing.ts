/** Shapes of operators that read and write by index. */

import { GraphError } from "../graph.ts";
import { constantNumber, describe, intAttribute, normalAxis, type Rules, same } from "./rule.ts";

export const indexingShapes: Rules = {
  Gather: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...input(1).shape, ...shape.slice(axis + 1)] }];
  },
  GatherElements: ({ input }) => [{ dtype: input(0).dtype, shape: input(1).shape }],
  GatherND: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const indices = input(1).shape;
    const batch = intAttribute(node, "batch_dims", 0);
    const depth = indices.at(-1) ?? 0;
    if (indices.length === 0 || batch + depth > shape.length || batch >= indices.length) {
      throw new GraphError(`${describe(node)}: indices [${indices}] do not point into [${shape}]`);
    }
    return [{ dtype, shape: [...indices.slice(0, -1), ...shape.slice(batch + depth)] }];
  },
  ScatterElements: same,
  ScatterND: same,
  TopK: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", -1), shape.length);
    const k = constantNumber(node, constant, 1);
    if (!(k <= shape[axis]!)) {
      throw new GraphError(`${describe(node)}: axis ${axis} of [${shape}] has fewer than ${k} elements`);
    }
    const result = shape.map((dim, i) => (i === axis ? k : dim));
    return [
      { dtype, shape: result },
      { dtype: "i64", shape: result },
    ];
  },
};
