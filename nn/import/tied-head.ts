/**
 * A head that is the transposed token table. PyTorch's exporter folds the transpose of a small one, and then the file
 * holds the same numbers twice and training would let them part. Two tables of learnt numbers are not equal by chance:
 * where the matrix of a product is a table, turned, it is written as that again.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Node } from "../onnx/graph.ts";
import type { Untyped } from "../passes/fold.ts";

/** The graph in which products read the table instead of its transposed copy. */
export function withTiedHead(graph: Untyped): Untyped {
  const matrix = (name: string | undefined) => {
    const tensor = graph.initializers.get(name ?? "");
    return tensor?.dtype === "f32" && tensor.shape.length === 2 ? tensor : undefined;
  };
  const tables = [
    ...new Set(graph.nodes.filter(({ op }) => op === "Gather").map(({ inputs }) => inputs[0]!)),
  ];
  const nodes = graph.nodes.flatMap((node): Node[] => {
    const copy = node.op === "MatMul" ? matrix(node.inputs[1]) : undefined;
    const table = copy && tables.find((name) => isTransposed(copy, matrix(name)));
    if (table === undefined) return [node];
    const turned = `${node.outputs[0]}.table`;
    const transpose = {
      op: "Transpose",
      domain: "",
      inputs: [table],
      outputs: [turned],
      attributes: { perm: [1, 0] },
    };
    return [transpose, { ...node, inputs: [node.inputs[0]!, turned] }];
  });
  return { ...graph, nodes };
}

function isTransposed(copy: Tensor, table: Tensor | undefined): boolean {
  const [rows, columns] = copy.shape as [number, number];
  if (!table || table.shape[0] !== columns || table.shape[1] !== rows) return false;
  const [a, b] = [copy.f32(), table.f32()];
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) if (a[i * columns + j] !== b[j * rows + i]) return false;
  }
  // A table of one value throughout, a fresh one, is equal to any other.
  return a.some((value) => value !== a[0]);
}
