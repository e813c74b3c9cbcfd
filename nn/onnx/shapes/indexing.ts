/** Shapes of operators that read and write by index. */

import { intAttribute, normalAxis, type Rules, same } from "./rule.ts";

export const indexingShapes: Rules = {
  Gather: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...input(1).shape, ...shape.slice(axis + 1)] }];
  },
  GatherElements: ({ input }) => [{ dtype: input(0).dtype, shape: input(1).shape }],
  ScatterElements: same,
  ScatterND: same,
};
