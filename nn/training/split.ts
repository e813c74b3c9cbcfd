/**
 * A backward pass in two: first the gradient of the stage's input, which another stage waits for, then those of its
 * parameters, which nobody waits for before the end of the step (Qi et al., "Zero Bubble Pipeline Parallelism", 2023).
 *
 * What the second reads of what the first has computed is handed on, so no node runs twice and the bits are those of
 * the one pass.
 */

import { extract, type Source } from "../onnx/extract.ts";
import type { Graph, Node, ValueInfo, ValueType } from "../onnx/graph.ts";

export interface SplitBackward {
  /** Null when no gradient of the input is wanted. Ends in it, and in what the second part reads. */
  readonly first: Graph | null;
  /** Null when no gradient of a parameter is wanted. */
  readonly second: Graph | null;
}

/**
 * @param available what both parts may read: inputs, stash, accumulators.
 * @param input the gradient of the stage's input, if it is wanted, and the name it goes by outside.
 * @param weights the results that are gradients of parameters.
 */
export function splitBackward(
  source: Source,
  available: readonly ValueInfo[],
  input: readonly string[],
  weights: readonly string[],
  type: (name: string) => ValueType,
): SplitBackward {
  if (input.length === 0) return { first: null, second: extract(source, available, weights) };
  const given = new Set(available.map(({ name }) => name));
  const producer = new Map<string, Node>();
  for (const node of source.nodes) for (const name of node.outputs) producer.set(name, node);

  const early = new Set<Node>();
  walk(input, (name) => {
    const node = given.has(name) ? undefined : producer.get(name);
    if (!node || early.has(node)) return [];
    early.add(node);
    return node.inputs;
  });
  const handed = new Set<string>();
  walk(weights, (name) => {
    const node = given.has(name) ? undefined : producer.get(name);
    if (!node) return [];
    if (!early.has(node)) return node.inputs;
    handed.add(name);
    return [];
  });
  const passed = [...producer.keys()].filter((name) => handed.has(name));
  const infos = passed.map((name): ValueInfo => ({ name, ...type(name) }));
  return {
    first: extract(source, available, [...new Set([...input, ...passed])]),
    second: weights.length === 0 ? null : extract(source, [...available, ...infos], weights),
  };
}

/** Visits every name that can be reached, once. */
function walk(from: readonly string[], next: (name: string) => readonly string[]): void {
  const seen = new Set<string>();
  const pending = [...from];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || seen.has(name)) continue;
    seen.add(name);
    pending.push(...next(name));
  }
}
