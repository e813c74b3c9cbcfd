/** Shapes of normalisations. */

import { intAttribute, normalAxis, type Rules } from "./rule.ts";

export const normalisationShapes: Rules = {
  LayerNormalization: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", -1), shape.length);
    const statistics = { dtype: "f32" as const, shape: shape.map((dim, i) => (i < axis ? dim : 1)) };
    return [{ dtype, shape }, statistics, statistics];
  },
};
