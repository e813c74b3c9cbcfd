/**
 * Slices and lookups of constant ranges that together take all of an axis, each element once, become one Split:
 * queries, keys and values out of one product, the two halves of a rotary embedding, a list that was unbound. It reads
 * the value once, and its gradient is one Concat instead of a sum of padded pieces. No bit changes.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Graph, Node, ValueType } from "../onnx/graph.ts";
import { inferShapes, intAttribute, integers, normalAxis, sliceCuts } from "../onnx/shapes.ts";

/** What a node takes of its first input: a range of one axis; `scalar` when the axis is gone in its output. */
interface Piece {
  readonly node: Node;
  readonly axis: number;
  readonly start: number;
  readonly count: number;
  readonly scalar: boolean;
}

/** The same graph with such pieces made by one Split; itself when there are none. */
export function joinCuts(graph: Graph): Graph {
  const types = inferShapes(graph);
  const byAxis = new Map<string, Piece[]>();
  for (const node of graph.nodes) {
    const piece = pieceOf(graph, node, types);
    if (!piece) continue;
    const key = `${piece.axis} of ${node.inputs[0]}`;
    byAxis.set(key, [...(byAxis.get(key) ?? []), piece]);
  }
  const splits = [...byAxis.values()].filter((pieces) => areWhole(pieces, types));
  if (splits.length === 0) return graph;

  const taken = new Set([...types.keys()]);
  const fresh = (stem: string): string => {
    let name = stem;
    for (let i = 0; taken.has(name); i++) name = `${stem}.${i}`;
    taken.add(name);
    return name;
  };
  const initializers = new Map(graph.initializers);
  const replaced = new Map<Node, readonly Node[]>();
  for (const pieces of splits) {
    const { axis, node: first } = pieces[0]!;
    const sorted = [...pieces].sort((a, b) => a.start - b.start);
    const sizes = sorted.map(({ count }) => count);
    const parts = new Map(
      sorted.map(({ node, scalar }) => [node, scalar ? fresh(`${node.outputs[0]}.part`) : node.outputs[0]!]),
    );
    const split: Node = {
      op: "Split",
      domain: "",
      inputs: [first.inputs[0]!, constantInts(initializers, fresh, sizes)],
      outputs: sorted.map(({ node }) => parts.get(node)!),
      attributes: { axis },
    };
    for (const { node, scalar } of pieces) {
      const inputs = [parts.get(node)!, constantInts(initializers, fresh, [axis])];
      const views = scalar
        ? [{ ...split, op: "Squeeze", inputs, outputs: node.outputs, attributes: {} }]
        : [];
      replaced.set(node, node === first ? [split, ...views] : views);
    }
  }
  return { ...graph, initializers, nodes: graph.nodes.flatMap((node) => replaced.get(node) ?? [node]) };
}

function pieceOf(graph: Graph, node: Node, types: ReadonlyMap<string, ValueType>): Piece | undefined {
  if (node.domain !== "" || (node.op !== "Slice" && node.op !== "Gather")) return undefined;
  const { shape } = types.get(node.inputs[0]!)!;
  const given = node.inputs.slice(1).map((name) => {
    const tensor = graph.initializers.get(name);
    return tensor && (tensor.dtype === "i64" || tensor.dtype === "i32") ? integers(tensor) : undefined;
  });
  if (node.inputs.slice(1).some((name, i) => name !== "" && !given[i])) return undefined;
  if (node.op === "Slice") {
    const [starts, ends, axes, steps] = given;
    const cuts = sliceCuts(node, shape, starts!, ends!, axes, steps);
    const [only] = cuts;
    return cuts.length === 1 && only!.step === 1 ? { node, ...only!, scalar: false } : undefined;
  }
  const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
  const at = given[0]!.map((index) => (index < 0 ? index + shape[axis]! : index));
  const rank = types.get(node.inputs[1]!)!.shape.length;
  const isRange = at.length > 0 && at.every((index, i) => index === at[0]! + i);
  return rank <= 1 && isRange
    ? { node, axis, start: at[0]!, count: at.length, scalar: rank === 0 }
    : undefined;
}

/** Whether the pieces, at least two, take every element of their axis once. */
function areWhole(pieces: readonly Piece[], types: ReadonlyMap<string, ValueType>): boolean {
  const { axis, node } = pieces[0]!;
  let end = 0;
  for (const { start, count } of [...pieces].sort((a, b) => a.start - b.start)) {
    if (start !== end || count === 0) return false;
    end += count;
  }
  return pieces.length > 1 && end === types.get(node.inputs[0]!)!.shape[axis];
}

function constantInts(
  initializers: Map<string, Tensor>,
  fresh: (stem: string) => string,
  values: readonly number[],
): string {
  const stem = `shape.${values.join("_")}`;
  const there = initializers.get(stem);
  if (there?.dtype === "i64" && there.shape.length === 1 && integers(there).join() === values.join())
    return stem;
  const name = fresh(stem);
  initializers.set(name, Tensor.i64([values.length], values));
  return name;
}
