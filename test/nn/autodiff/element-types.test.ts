/**
 * Every gradient rule over other element types than f32: constants a rule writes must be of the type of what they meet.
 * In doubles the gradients are those in f32; in sixteen bits they have the type, and their own precision.
 */

import { expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { filledTensor, numbersOf, tensorOf } from "../../../nn/onnx/numbers.ts";
import type { DType, Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";
import { RULE_CASES, type RuleCase } from "./rule-cases.ts";

const TOLERANCE = { f32: 0, f64: 1e-5, f16: 0.02 } as const;

/** Their statistics and maps are f32, as ONNX Runtime's kernels have them, and so are their gradients. */
const F32_ONLY = new Set([
  ...["LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", "BatchNormalization"],
  ...["GroupNormalization", "InstanceNormalization", "SkipLayerNormalization"],
  ...["SkipSimplifiedLayerNormalization", "MaxPool", "AveragePool", "LpPool"],
  ...["GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample"],
]);

const engine = createReferenceEngine();

/** Gradients of the sum of all outputs with respect to all real inputs, with f32 inputs as `dtype`. */
async function gradients(op: string, instance: RuleCase, dtype: DType): Promise<number[][]> {
  const { inputs, constant = [], attributes = {}, domain = "", outputs = 1 } = instance;
  const as = (tensor: Tensor) =>
    tensor.dtype === "f32" ? tensorOf(dtype, tensor.shape, numbersOf(tensor)) : tensor;
  const b = new GraphBuilder(op);
  const values: Record<string, Tensor> = {};
  const names = inputs.map((input, i) => {
    if (!input) return "";
    const tensor = as(input);
    if (constant.includes(i)) return b.constant(`x${i}`, tensor);
    values[`x${i}`] = tensor;
    return b.input(`x${i}`, tensor.dtype, tensor.shape);
  });
  const ys = b.node(op, names, {
    outputs: Array.from({ length: outputs }, (_, i) => `y${i}`),
    attributes,
    domain,
  });
  const real = ys.filter((y) => ["f32", dtype].includes(b.type(y).dtype));
  for (const y of real) b.output(y);
  const wrt = Object.keys(values).filter((name) => values[name]!.dtype === dtype);
  const seeds = Object.fromEntries(real.map((y) => [y, `d${y}`]));
  const joint = differentiate(b.build(), seeds, wrt);
  const given = real.map((y) => ({ ...b.type(y), name: `d${y}` }));
  const wanted = [...new Set(joint.gradients.values())].filter((name) => !given.some((y) => y.name === name));
  for (const { name, dtype, shape } of given) values[name] = filledTensor(dtype, shape, 0.5);
  const graph = extract(joint.builder.build(), [...b.build().inputs, ...given], wanted);
  const results = { ...values, ...(wanted.length > 0 && (await runGraph(engine, graph, values))) };
  return wrt.map((name) => {
    const gradient = results[joint.gradients.get(name)!]!;
    expect(gradient.dtype, `${op}: element type of the gradient of ${name}`).toBe(dtype);
    return numbersOf(gradient);
  });
}

for (const [op, make] of Object.entries(RULE_CASES)) {
  if (F32_ONLY.has(op)) continue;
  test(`${op} in f64 and f16`, async () => {
    for (let seed = 1; seed <= 3; seed++) {
      const instance = make(new Chance(seed * 31337 + op.length));
      const expected = await gradients(op, instance, "f32");
      for (const dtype of ["f64", "f16"] as const) {
        const got = await gradients(op, instance, dtype);
        got.forEach((gradient, k) => {
          const largest = Math.max(1, ...expected[k]!.map(Math.abs));
          gradient.forEach((value, i) => {
            const error = Math.abs(value - expected[k]![i]!) / largest;
            expect(error, `${op} seed ${seed} in ${dtype}, x${k}[${i}]`).toBeLessThan(TOLERANCE[dtype]);
          });
        });
      }
    }
  });
}
