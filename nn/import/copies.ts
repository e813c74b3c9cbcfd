/**
 * Exporters store equal tensors once. Of a model that was trained that tells what it shares; of a fresh one it joins
 * what is only equal so far: all scales of ones, all biases of zeros. So a vector of one value throughout that several
 * nodes use is taken for as many parameters, but for biases of one and the same matrix or kernel, which share indeed.
 *
 * PyTorch's older exporter leaves the other names, as Identity nodes. What has a name of its own is a parameter of its
 * own, but for tables: an embedding that is tied to the head has two names as well.
 */

import type { Node } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import type { Untyped } from "../passes/fold.ts";

/** Inputs that are vectors by channels, and the matrix that a bias belongs to. */
const VECTORS: Readonly<Record<string, { readonly at: readonly number[]; readonly matrix?: number }>> = {
  Gemm: { at: [2], matrix: 1 },
  Conv: { at: [2], matrix: 1 },
  ConvTranspose: { at: [2], matrix: 1 },
  LayerNormalization: { at: [1, 2] },
  GroupNormalization: { at: [1, 2] },
  InstanceNormalization: { at: [1, 2] },
  BatchNormalization: { at: [1, 2, 3, 4] },
  RMSNormalization: { at: [1] },
  PRelu: { at: [1] },
  Add: { at: [0, 1] },
  Mul: { at: [0, 1] },
};

/** The graph in which what was joined for being equal is apart again. */
export function withoutCopies(graph: Untyped): Untyped {
  return vectorsApart(namesApart(graph));
}

function namesApart(graph: Untyped): Untyped {
  const tables = new Set(graph.nodes.filter(({ op }) => op === "Gather").map(({ inputs }) => inputs[0]!));
  const initializers = new Map(graph.initializers);
  const nodes = graph.nodes.filter(({ op, domain, inputs, outputs }) => {
    const tensor = initializers.get(inputs[0] ?? "");
    const [from, to] = [inputs[0]!, outputs[0]!];
    if (op !== "Identity" || domain !== "" || tensor?.dtype !== "f32") return true;
    if (tables.has(from) || tables.has(to)) return true;
    initializers.set(to, tensor);
    return false;
  });
  return { ...graph, initializers, nodes };
}

function vectorsApart(graph: Untyped): Untyped {
  const shared = new Set(
    [...graph.initializers]
      .filter(([, { dtype, shape }]) => dtype === "f32" && shape.length === 1 && shape[0]! > 1)
      .filter(([, tensor]) => numbersOf(tensor).every((value, _, all) => value === all[0]))
      .map(([name]) => name),
  );
  if (shared.size === 0) return graph;
  const initializers = new Map(graph.initializers);
  const makers = new Map(
    graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  /** By vector: the name for each matrix that it is the bias of. */
  const names = new Map<string, Map<string, string>>();
  const nodes = graph.nodes.map((node, at) => {
    const known = VECTORS[node.op];
    if (!known || !node.inputs.some((input) => shared.has(input))) return node;
    const inputs = node.inputs.map((input, index) => {
      if (!shared.has(input) || !known.at.includes(index)) return input;
      const given = names.get(input) ?? new Map<string, string>();
      names.set(input, given);
      const owner = matrixOf(node, index, known.matrix, makers) ?? `${at}`;
      const name = given.get(owner) ?? (given.size === 0 ? input : freshName(initializers, input));
      given.set(owner, name);
      initializers.set(name, graph.initializers.get(input)!);
      return name;
    });
    return { ...node, inputs };
  });
  return { ...graph, initializers, nodes };
}

function matrixOf(
  node: Node,
  index: number,
  matrix: number | undefined,
  makers: ReadonlyMap<string, Node>,
): string | undefined {
  if (matrix !== undefined) return node.inputs[matrix];
  if (node.op !== "Add") return undefined;
  const product = makers.get(node.inputs[1 - index]!);
  return product?.op === "MatMul" ? product.inputs[1] : undefined;
}

function freshName(initializers: ReadonlyMap<string, unknown>, stem: string): string {
  let number = 2;
  while (initializers.has(`${stem}.copy${number}`)) number++;
  return `${stem}.copy${number}`;
}
