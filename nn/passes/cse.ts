/**
 * Common subexpressions: nodes that compute the same from the same values become one, and so do equal constants.
 * One walk in order; a node that makes an output of the graph stays.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Attribute, Graph, Node } from "../onnx/graph.ts";
import { renameInputs, sameBytes } from "./rewrite.ts";

/** Two of them are meant to differ. */
const RANDOM = new Set([
  "Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
]); // biome-ignore format: a table

export function shareCommon(graph: Graph): Graph {
  const names = new Map<string, string>();
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const initializers = new Map<string, Tensor>();
  const byContent = new Map<string, string[]>();
  for (const [name, tensor] of graph.initializers) {
    const key = `${tensor.dtype}[${tensor.shape}]${hash(tensor.bytes)}`;
    const alike = byContent.get(key) ?? [];
    const same = alike.find((other) => sameBytes(initializers.get(other)!.bytes, tensor.bytes));
    if (same !== undefined && !outputs.has(name)) {
      names.set(name, same);
      continue;
    }
    byContent.set(key, [...alike, name]);
    initializers.set(name, tensor);
  }

  const seen = new Map<string, Node>();
  const nodes: Node[] = [];
  for (const raw of graph.nodes) {
    const node = renameInputs(raw, names);
    const key = RANDOM.has(node.op) ? undefined : keyOf(node);
    const twin = key === undefined ? undefined : seen.get(key);
    const replaceable =
      twin !== undefined &&
      node.outputs.every((name, i) => name === "" || (!outputs.has(name) && twin.outputs[i]));
    if (replaceable) {
      node.outputs.forEach((name, i) => {
        if (name !== "") names.set(name, twin.outputs[i]!);
      });
      continue;
    }
    if (key !== undefined) seen.set(key, node);
    nodes.push(node);
  }
  return { ...graph, initializers, nodes };
}

function keyOf(node: Node): string {
  const attributes = Object.entries(node.attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([
    node.domain,
    node.op,
    node.inputs,
    attributes.map(([name, value]) => [name, plain(value)]),
  ]);
}

const plain = (value: Attribute): unknown =>
  value instanceof Tensor ? [value.dtype, value.shape, [...value.bytes]] : value;

/** Bytes of a constant that its hash is made of, spread evenly. */
const SAMPLED = 1024;

/** FNV-1a of 32 bits over some of the bytes; equal hashes are compared byte by byte. */
function hash(bytes: Uint8Array): number {
  const step = Math.max(1, Math.floor(bytes.length / SAMPLED));
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i += step) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return h >>> 0;
}
