/**
 * Every gradient rule against central differences. The derived graph runs in f32, as it does in training; the
 * differences are taken of the same forward graph in f64, so that their own error does not count.
 */

import { describe, expect, test } from "bun:test";
import { differentiate, GRADIENT_RULES } from "../../../nn/autodiff/gradient.ts";
import { writtenOut } from "../../../nn/autodiff/write-out.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { Chance, describeInputs } from "../engine/operator-cases.ts";
import { deadNodes, inDoubles, runGraph, type Values, widened } from "../run.ts";
import { fusedMatMul, RULE_CASES, type RuleCase } from "./rule-cases.ts";

const SEEDS = 8;
/** Relative to 1 + |gradient|; the rounding of a few f32 operations. */
const TOLERANCE = 2e-5;
const STEP = 1e-4;

const engine = createReferenceEngine();

test("every rule has cases", () => {
  expect(Object.keys(RULE_CASES).sort()).toEqual(Object.keys(GRADIENT_RULES).sort());
});

for (const [op, make] of Object.entries(RULE_CASES)) {
  test(`${op} agrees with finite differences`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const chance = new Chance(seed * 104729 + op.length);
      await check(op, make(chance), chance, `${op} seed ${seed}`);
    }
  });
}

describe("FusedMatMul with", () => {
  for (let bits = 0; bits < 16; bits++) {
    const bit = (i: number) => (bits >> i) & 1;
    const flags = { transA: bit(0), transB: bit(1), transBatchA: bit(2), transBatchB: bit(3) };
    test(JSON.stringify(flags), async () => {
      const chance = new Chance(bits + 1);
      await check("FusedMatMul", fusedMatMul(flags)(chance), chance, `flags ${bits}`);
    });
  }
});

/** A graph of one node, whose outputs are weighed into the scalar `loss` by random constants. */
function lossGraph(
  op: string,
  { inputs, attributes, outputs, domain, constant = [] }: RuleCase,
  chance: Chance,
): Graph {
  const b = new GraphBuilder(op);
  const names = inputs.map((tensor, i) => {
    if (!tensor) return "";
    return constant.includes(i) ? b.constant(`x${i}`, tensor) : b.input(`x${i}`, tensor.dtype, tensor.shape);
  });
  const results = b.node(op, names, {
    outputs: Array.from({ length: outputs ?? 1 }, (_, i) => `y${i}`),
    attributes: attributes ?? {},
    domain: domain ?? "",
  });
  const real = results.filter((y) => b.type(y).dtype === "f32");
  const losses = real.map((y) => {
    const weights = b.constant(`w.${y}`, chance.f32(b.shape(y)));
    return b.op("ReduceSum", [b.op("Mul", [y, weights])], { keepdims: 0 });
  });
  b.output(losses.reduce((sum, loss) => b.op("Add", [sum, loss])));
  return b.build();
}

async function check(op: string, instance: RuleCase, chance: Chance, where: string): Promise<void> {
  const graph = lossGraph(op, instance, chance);
  const inputs = instance.inputs.filter((tensor) => tensor !== undefined);
  const values: Values = Object.fromEntries(
    instance.inputs.flatMap((tensor, i) => (tensor ? [[`x${i}`, tensor]] : [])),
  );
  const wrt = graph.inputs.filter(({ dtype }) => dtype === "f32").map(({ name }) => name);
  const gradients = await derived(graph, values, wrt, where);
  for (const name of wrt) {
    const expected = await differences(graph, values, name);
    const got = gradients[name]!;
    expect(got.shape, `${where}: shape of the gradient of ${name}`).toEqual(values[name]!.shape);
    got.f32().forEach((value, i) => {
      if (Math.abs(value - expected[i]!) <= TOLERANCE * (1 + Math.abs(expected[i]!))) return;
      throw new Error(
        `${where}, ${describeInputs(inputs)}: d ${name}[${i}] is ${value}, differences say ${expected[i]}`,
      );
    });
  }
}

/** The gradients of the graph's only output by the derived graph. */
async function derived(graph: Graph, values: Values, wrt: readonly string[], where: string) {
  const loss = graph.outputs[0]!.name;
  const joint = differentiate(graph, { [loss]: 1 }, wrt);
  const gradients = extract(joint.builder.build(), graph.inputs, [...new Set(joint.gradients.values())]);
  expect(deadNodes(gradients), `${where}: dead nodes`).toEqual([]);
  const results = await runGraph(engine, gradients, values);
  return Object.fromEntries(wrt.map((name) => [name, results[joint.gradients.get(name)!]!]));
}

/** Compiled once: only the element at hand changes from run to run. */
async function differences(graph: Graph, values: Values, name: string): Promise<Float64Array> {
  const doubles = inDoubles(writtenOut(withoutTroupe(graph)));
  const executable = await engine.compile(doubles);
  const feeds = Object.fromEntries(
    doubles.inputs.map((input) => [input.name, engine.allocate(input.dtype, input.shape)]),
  );
  for (const [key, { tensor }] of Object.entries(feeds)) tensor.bytes.set(widened(values[key]!).bytes);
  const loss = engine.allocate("f64", []);
  const binding = executable.bind(feeds, { [doubles.outputs[0]!.name]: loss });
  const moving = feeds[name]!.tensor.f64();
  const at = async (x: number, i: number) => {
    moving[i] = x;
    await binding.run();
    return loss.tensor.f64()[0]!;
  };
  const result = new Float64Array(moving.length);
  for (let i = 0; i < moving.length; i++) {
    const x = moving[i]!;
    result[i] = ((await at(x + STEP, i)) - (await at(x - STEP, i))) / (2 * STEP);
    moving[i] = x;
  }
  for (const held of [binding, executable, loss, ...Object.values(feeds)]) held.release();
  return result;
}

/** ErfGate is written out by its rule; here it is u·(1 + erf u), by its definition. */
function withoutTroupe(graph: Graph): Graph {
  const b = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) b.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) b.constant(name, tensor);
  for (const node of graph.nodes) {
    if (node.op !== "ErfGate") b.append(node);
    else {
      const gate = b.op("Add", [b.op("Erf", [node.inputs[0]!], {}, "gate.erf"), b.scalar(1)], {}, "gate");
      b.op("Mul", [node.inputs[0]!, gate], {}, node.outputs[0]!);
    }
  }
  for (const { name } of graph.outputs) b.output(name);
  return b.build();
}
