import { describe, expect, test } from "bun:test";
import { read } from "../../../nn/engine/reference/ndarray.ts";
import { Call } from "../../../nn/engine/reference/operator.ts";
import { operatorOf } from "../../../nn/engine/reference/operators.ts";
import { type Attribute, GraphError, type Node } from "../../../nn/onnx/graph.ts";
import { broadcast, inferNode, inferShapes, typeText } from "../../../nn/onnx/shapes.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { CASES, Chance, describeInputs } from "../engine/operator-cases.ts";

const SEEDS = 12;

/** The reference engine's results have the shapes that the native engine returns: reference.test.ts binds them. */
describe("inferred types are those of the results:", () => {
  for (const [op, make] of Object.entries(CASES)) {
    test(op, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const {
          inputs,
          constant = [],
          attributes,
          outputs,
          domain,
        } = make(new Chance(seed * 6007 + op.length));
        const node: Node = {
          op,
          domain: domain ?? "",
          inputs: inputs.map((_, i) => `x${i}`),
          outputs: Array.from({ length: outputs ?? 1 }, (_, i) => `y${i}`),
          attributes: attributes ?? {},
        };
        const inferred = inferNode(node, inputs, (i) => (constant.includes(i) ? inputs[i] : undefined));
        const results = operatorOf(node)(new Call(node, inputs.map(read)));
        const where = `${op} seed ${seed}, ${describeInputs(inputs)}`;
        const types = node.outputs.map((_, i) => typeText(inferred[i]!));
        expect(types, where).toEqual(node.outputs.map((_, i) => typeText(results[i]!)));
      }
    });
  }
});

test("shapes broadcast as in numpy", () => {
  expect(broadcast([3, 1, 5], [4, 1], "")).toEqual([3, 4, 5]);
  expect(broadcast([], [2], "")).toEqual([2]);
  expect(() => broadcast([2], [3], "here")).toThrow("here: [2] and [3] do not broadcast");
});

describe("what does not fit is refused, naming the node:", () => {
  const infer = (
    op: string,
    shapes: readonly (readonly number[])[],
    attributes: Record<string, Attribute> = {},
  ) => {
    const inputs = shapes.map((_, i) => `x${i}`);
    const types = shapes.map((shape) => ({ dtype: "f32" as const, shape }));
    return inferNode({ op, domain: "", inputs, outputs: ["y"], attributes }, types, () => undefined);
  };
  test.each<[string, () => unknown, string]>([
    ["an unknown operator", () => infer("Nonsense", [[1]]), "no shape rule for operator Nonsense"],
    [
      "inner sizes",
      () =>
        infer("MatMul", [
          [2, 3],
          [2, 3],
        ]),
      "inner sizes of [2,3] and [2,3] differ",
    ],
    ["a vector in a Gemm", () => infer("Gemm", [[3], [3, 2]]), "[3] and [3,2] are not both matrices"],
    [
      "transBatch with other ranks",
      () =>
        infer(
          "FusedMatMul",
          [
            [3, 2, 4],
            [4, 5],
          ],
          { transBatchA: 1 },
        ),
      "with transBatch [3,2,4] and [4,5] must have as many axes",
    ],
    [
      "an equation with other sizes",
      () => infer("Einsum", [[2], [3]], { equation: "i,i->" }),
      'equation "i,i->" gives i the sizes 2 and 3',
    ],
    ["an equation", () => infer("Einsum", [[2]], { equation: "i->j->k" }), "cannot be read"],
    ["operands of an equation", () => infer("Einsum", [[2]], { equation: "i,j" }), "has 2 operands, not 1"],
    ["a label from nowhere", () => infer("Einsum", [[2]], { equation: "i->j" }), "has no operand with j"],
    [
      "classes of other shapes",
      () => infer("NegativeLogLikelihoodLoss", [[2, 3, 4], [2]]),
      "classes [2] do not go with scores [2,3,4]",
    ],
    ["a bound that is no scalar", () => infer("Clip", [[2], [2]]), "bound f32[2] is no scalar of type f32"],
    ["a slope that is too large", () => infer("PRelu", [[1], [3]]), "[3] does not stretch to [1]"],
    [
      "a C that is too large",
      () =>
        infer("Gemm", [
          [1, 2],
          [2, 3],
          [4, 3],
        ]),
      "C [4,3] is larger than the product [1,3]",
    ],
    ["an axis twice", () => infer("Transpose", [[1, 2]], { perm: [0, 0] }), "[0,0] is no permutation"],
    [
      "parts of other shapes",
      () =>
        infer("Concat", [
          [1, 2],
          [1, 3],
        ]),
      "[1,2] and [1,3] differ off axis 0",
    ],
    ["a shape that is computed", () => infer("Reshape", [[1, 2], [1]]), "input 1 must be a constant"],
    ["a missing input", () => infer("Where", [[1], [1]]), "input 2 is missing"],
    ["an element type", () => infer("Cast", [[1]], { to: 8 }), "cannot cast to type 8"],
  ])("%s", (_, run, message) => {
    expect(run).toThrow(GraphError);
    expect(run).toThrow(message);
    expect(run).toThrow("-> (y)");
  });

  test("parts that do not make up the whole", () => {
    const node = { op: "Split", domain: "", inputs: ["x", "sizes"], outputs: ["y", "z"], attributes: {} };
    const sizes = Tensor.i64([2], [1, 1]);
    expect(() => inferNode(node, [Tensor.zeros("f32", [3]), sizes], () => sizes)).toThrow("parts [1,1]");
  });

  test("a value used before it is defined", () => {
    const node = { op: "Neg", domain: "", inputs: ["x"], outputs: ["y"], attributes: {} };
    const graph = { name: "g", inputs: [], outputs: [], initializers: new Map(), nodes: [node] };
    expect(() => inferShapes(graph)).toThrow('Neg (x) -> (y): input "x" is not defined before it');
  });
});
