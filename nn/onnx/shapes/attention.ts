/** Shapes of attention and rotary embedding. They are written out before anything runs. */

import { GraphError, type Node, type ValueType } from "../graph.ts";
import { describe, intAttribute, type Rules, same } from "./rule.ts";

/**
 * Heads of queries, and of keys and values, of an Attention: axis 1 of [B, heads, S, D], or as the node says for
 * [B, S, heads·D].
 * @throws GraphError when they do not divide as they should.
 */
export function headsOf(node: Node, query: ValueType, key: ValueType): readonly [number, number] {
  const apart = query.shape.length === 4;
  const [heads, groups] = apart
    ? [query.shape[1]!, key.shape[1]!]
    : [intAttribute(node, "q_num_heads", 0), intAttribute(node, "kv_num_heads", 0)];
  const fits = apart || (query.shape[2]! % heads === 0 && key.shape[2]! % groups === 0);
  if (!(heads > 0 && groups > 0) || heads % groups !== 0 || !fits) {
    throw new GraphError(
      `${describe(node)}: queries [${query.shape}] and keys [${key.shape}] in ${heads} and ${groups} heads`,
    );
  }
  return [heads, groups];
}

export const attentionShapes: Rules = {
  Attention: ({ node, input }) => {
    const [query, key, value] = [input(0), input(1), input(2)];
    const rank = query.shape.length;
    if ((rank !== 3 && rank !== 4) || key.shape.length !== rank || value.shape.length !== rank) {
      const shapes = [query, key, value].map(({ shape }) => `[${shape}]`).join(", ");
      throw new GraphError(`${describe(node)}: queries, keys and values ${shapes}; all have 3 axes, or 4`);
    }
    const [heads, groups] = headsOf(node, query, key);
    const width = rank === 4 ? value.shape[3]! : (value.shape[2]! / groups) * heads;
    return [{ dtype: query.dtype, shape: query.shape.with(-1, width) }];
  },
  RotaryEmbedding: same,
};
