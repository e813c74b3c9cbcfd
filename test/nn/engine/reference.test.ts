import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writtenOut } from "../../../nn/autodiff/write-out.ts";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { type NdArray, read } from "../../../nn/engine/reference/ndarray.ts";
import { Call } from "../../../nn/engine/reference/operator.ts";
import { OPERATORS, operatorOf } from "../../../nn/engine/reference/operators.ts";
import type { Graph, Node } from "../../../nn/onnx/graph.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { CASES, Chance, describeInputs, type OperatorCase } from "./operator-cases.ts";

const SEEDS = 6;
const TOLERANCE = 1e-5;

const available = await availableEngines();
const native = available.some(({ name }) => name === "native");
if (!native) console.warn("reference against native: skipped, no native engine on this machine");

test("every operator of the reference engine has cases", () => {
  // A name may stand in two domains.
  const operators = new Set(Object.values(OPERATORS).flatMap(Object.keys));
  expect(Object.keys(CASES).sort()).toEqual([...operators].sort());
});

describe.skipIf(!native)("the reference engine agrees with the native one", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine({ engine: "native" });
  });
  afterAll(() => engine.close());

  for (const [op, make] of Object.entries(CASES)) {
    test(op, async () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const instance = make(new Chance(seed * 7919 + op.length));
        const node = nodeOf(op, instance);
        const expected = operatorOf(node)(new Call(node, instance.inputs.map(read)));
        const results = await runNode(engine, node, instance, expected);
        const where = `${op} seed ${seed}, ${describeInputs(instance.inputs)}`;
        results.forEach((result, i) => {
          expectClose(result, expected[i]!, `${where}, output ${i}`);
        });
      }
    });
  }
});

function nodeOf(op: string, { inputs, attributes, outputs, domain }: OperatorCase): Node {
  return {
    op,
    domain: domain ?? "",
    inputs: inputs.map((_, i) => `x${i}`),
    outputs: Array.from({ length: outputs ?? 1 }, (_, i) => `y${i}`),
    attributes: attributes ?? {},
  };
}

/** Runs a graph of this one node; outputs are declared as the reference computed them. */
async function runNode(
  engine: Engine,
  node: Node,
  { inputs, constant = [] }: OperatorCase,
  expected: readonly NdArray[],
): Promise<NdArray[]> {
  const named = inputs.map((tensor, i) => ({ name: `x${i}`, tensor, constant: constant.includes(i) }));
  const graph: Graph = {
    name: node.op,
    inputs: named
      .filter((x) => !x.constant)
      .map(({ name, tensor: { dtype, shape } }) => ({ name, dtype, shape })),
    outputs: node.outputs.map((name, i) => ({ name, dtype: expected[i]!.dtype, shape: expected[i]!.shape })),
    initializers: new Map(named.filter((x) => x.constant).map(({ name, tensor }) => [name, tensor])),
    nodes: [node],
  };
  const executable = await engine.compile(writtenOut(graph));
  const allocate = ({ dtype, shape }: Pick<Tensor, "dtype" | "shape">) => engine.allocate(dtype, shape);
  const feeds = Object.fromEntries(graph.inputs.map((input) => [input.name, allocate(input)]));
  const fetches = Object.fromEntries(graph.outputs.map((output) => [output.name, allocate(output)]));
  for (const { name, tensor } of named) feeds[name]?.tensor.bytes.set(tensor.bytes);
  const binding = executable.bind(feeds, fetches);
  await binding.run();
  const results = graph.outputs.map(({ name }) => read(fetches[name]!.tensor));
  for (const owned of [binding, executable, ...Object.values(feeds), ...Object.values(fetches)])
    owned.release();
  return results;
}

function expectClose(result: NdArray, expected: NdArray, where: string): void {
  expected.data.forEach((want, i) => {
    const got = result.data[i]!;
    if (!(Math.abs(got - want) <= TOLERANCE * (1 + Math.abs(want)))) {
      throw new Error(`${where}: element ${i} is ${want} in the reference and ${got} in the native engine`);
    }
  });
}
