/**
 * What a stage keeps of a micro-batch between its forward and its backward pass: chosen tensor by tensor, under a
 * budget of bytes.
 *
 * All that backward reads of forward could be stashed; each tensor that is not is computed again, from what is stashed
 * nearest before it. Greedy, as in Kirisame et al., "Dynamic Tensor Rematerialization" (2021): as long as there is too
 * much, the tensor goes whose recomputation costs least for the bytes that it saves. The costs are estimates, which
 * decide speed and nothing else: recomputed values have the bits of stashed ones.
 */

import { byteLength } from "../../protocols/tensor.ts";
import type { Source } from "../onnx/extract.ts";
import type { Node, ValueType } from "../onnx/graph.ts";
import { nodeFlops } from "../segments/flops.ts";

/** Operators that only relabel memory; redone where needed, never stashed. */
export const VIEWS: ReadonlySet<string> = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"]);

/** Rough speeds, per nanosecond: of products, and of everything else, which waits for memory. */
const FLOPS_PER_NS = 100;
const BYTES_PER_NS = 5;

type TypeOf = (name: string) => ValueType;

/**
 * Names of the values to stash, in the order they are computed in.
 * @param forward those nodes of `source` that are the forward pass; the others are the backward pass.
 * @param results what the backward pass is to compute.
 * @param budget bytes; Infinity stashes everything, 0 nothing.
 */
export function chooseStash(
  source: Source,
  forward: readonly Node[],
  results: readonly string[],
  budget: number,
  type: TypeOf,
): string[] {
  const producer = new Map<string, Node>();
  for (const node of forward) for (const name of node.outputs) producer.set(name, node);
  const wanted = crossing(source, forward, producer, results);
  const bytes = (name: string) => byteLength(type(name).dtype, type(name).shape);
  let total = wanted.reduce((sum, name) => sum + bytes(name), 0);
  if (total <= budget) return wanted;

  const kept = new Set(wanted);
  const redone = new Set<Node>();
  const types: ReadonlyMap<string, ValueType> = { get: type } as ReadonlyMap<string, ValueType>;
  const nodeCost = (node: Node) => {
    if (VIEWS.has(node.op)) return 0;
    const moved = node.outputs.reduce((sum, name) => sum + (name === "" ? 0 : bytes(name)), 0);
    return nodeFlops(node, types) / FLOPS_PER_NS + moved / BYTES_PER_NS;
  };
  /** Nodes that have to run again for `name` when it is not stashed, besides those that run again anyway. */
  const again = (name: string): Node[] => {
    const found = new Set<Node>();
    const pending = [name];
    for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
      const node = producer.get(value);
      if (!node || (value !== name && kept.has(value)) || found.has(node) || redone.has(node)) continue;
      found.add(node);
      pending.push(...node.inputs);
    }
    return [...found];
  };
  const price = (name: string) =>
    again(name).reduce((sum, node) => sum + nodeCost(node), 0) / Math.max(1, bytes(name));

  // Prices change as others go: the cheapest is priced anew before it is taken, and waits if it has become dearer.
  const queue = wanted.map((name) => ({ name, price: price(name) })).sort((a, b) => a.price - b.price);
  while (total > budget) {
    const first = queue.shift()!;
    const now = price(first.name);
    if (queue.length > 0 && now > queue[0]!.price) {
      const at = queue.findIndex((other) => other.price >= now);
      queue.splice(at < 0 ? queue.length : at, 0, { name: first.name, price: now });
      continue;
    }
    for (const node of again(first.name)) redone.add(node);
    kept.delete(first.name);
    total -= bytes(first.name);
  }
  return wanted.filter((name) => kept.has(name));
}

/** Values computed by forward nodes and read by the others, with views traced back to what they view. */
function crossing(
  source: Source,
  forward: readonly Node[],
  producer: ReadonlyMap<string, Node>,
  results: readonly string[],
): string[] {
  const inForward = new Set(forward);
  const backward = new Map<string, Node>();
  for (const node of source.nodes) {
    if (!inForward.has(node)) for (const name of node.outputs) backward.set(name, node);
  }
  const found = new Set<string>();
  const seen = new Set<string>();
  const pending = [...results];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    const later = backward.get(name);
    const earlier = producer.get(name);
    if (later) pending.push(...later.inputs);
    else if (earlier && VIEWS.has(earlier.op)) pending.push(earlier.inputs[0]!);
    else if (earlier) found.add(name);
  }
  return [...producer.keys()].filter((name) => found.has(name));
}
