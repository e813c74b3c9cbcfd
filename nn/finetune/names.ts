/**
 * How parameters are picked by name. A pattern is a run of whole parts of a dotted name, in which `*` stands for any
 * characters: `q_proj` picks every layer's `…self_attn.q_proj.weight`, `layers.0` all of layer 0 and nothing of layer 10,
 * `*` everything.
 */

import { GraphError } from "../onnx/graph.ts";

export function matches(name: string, pattern: string): boolean {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`(^|\\.)${escaped}(\\.|$)`).test(name);
}

/**
 * Those of `names` that at least one pattern picks, in their order.
 * @throws GraphError naming a pattern that picks nothing, and what there is.
 */
export function pick(names: readonly string[], patterns: readonly string[], what: string): string[] {
  for (const pattern of patterns) {
    if (names.some((name) => matches(name, pattern))) continue;
    const shown = names.slice(0, 8).join(", ") + (names.length > 8 ? `, … (${names.length} in all)` : "");
    throw new GraphError(`pattern "${pattern}" picks no ${what}; there are: ${shown || "none"}`);
  }
  return names.filter((name) => patterns.some((pattern) => matches(name, pattern)));
}

/** The module a weight belongs to, as PyTorch names them. */
export const moduleOf = (weight: string): string => weight.replace(/\.weight$/, "");
