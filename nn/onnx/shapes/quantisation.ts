/** Shapes of operators between integers and the real numbers they stand for. */

import { GraphError } from "../graph.ts";
import { broadcast, describe, intAttribute, normalAxis, type Rules } from "./rule.ts";

export const quantisationShapes: Rules = {
  /** One scale for all, or one for each index of an axis; blocks are not known. */
  DequantizeLinear: ({ node, input }) => {
    const { shape } = input(0);
    const scale = input(1);
    const size = shape[normalAxis(intAttribute(node, "axis", 1), shape.length)];
    if (scale.shape.length > 1 || broadcast(scale.shape, [size ?? 1], describe(node))[0] !== (size ?? 1)) {
      throw new GraphError(`${describe(node)}: scale [${scale.shape}] should be a scalar or [${size ?? 1}]`);
    }
    return [{ dtype: scale.dtype, shape }];
  },
};
