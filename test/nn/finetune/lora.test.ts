/** Adapters: nothing changes before training, gradients only where they are wanted, merged equals unmerged. */

import { describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { freeze } from "../../../nn/finetune/freeze.ts";
import { type LoraModel, lora } from "../../../nn/finetune/lora.ts";
import { mergeLora } from "../../../nn/finetune/merge.ts";
import type { Model } from "../../../nn/model.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { float, GraphError, MICROSOFT } from "../../../nn/onnx/graph.ts";
import { findSegments } from "../../../nn/segments.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { batchOf, difference, expected, initialValues, logitsGraph, open, shapeOf } from "../hf/fixtures.ts";
import { deadNodes, runGraph, type Values } from "../run.ts";

const engine = createReferenceEngine();
const SEED = 5;

async function folder(name: string): Promise<{ model: Model; batch: Values }> {
  const want = expected(name);
  return { model: (await open(name)).model(shapeOf(want)), batch: batchOf(want) };
}

const logits = async (model: Model, values: Values) =>
  (await runGraph(engine, logitsGraph(model), values)).logits!.f32();

/** Values with A and B random, so that the adapters do something. */
async function trained(model: LoraModel): Promise<Record<string, Tensor>> {
  const chance = new Chance(3);
  const values = await initialValues(model, SEED);
  for (const name of model.parameters) values[name] = chance.f32(values[name]!.shape, -0.3, 0.3);
  return values;
}

async function gradients(model: Model, values: Values) {
  const joint = differentiate(model.graph, { loss: 1 }, model.parameters);
  const names = model.parameters.map((name) => joint.gradients.get(name)!);
  const graph = extract(joint.builder.build(), model.graph.inputs, ["loss", ...new Set(names)]);
  const results = await runGraph(engine, graph, values);
  return { graph, loss: results.loss!.f32()[0]!, of: names.map((name) => results[name]!.f32()) };
}

const TARGETS = {
  gpt2: ["c_attn", "mlp"],
  llama: ["q_proj", "layers.1.mlp.*", "lm_head"],
  qwen3: ["*"],
} as const;

describe.each(Object.entries(TARGETS))("LoRA on %s", (name, targets) => {
  const options = { targets, rank: 3, alpha: 6 };

  test("changes nothing before it is trained, to the bit", async () => {
    const { model, batch } = await folder(name);
    const adapted = lora(model, options);
    const before = await logits(model, { ...(await initialValues(model)), ...batch });
    const after = await logits(adapted, { ...(await initialValues(adapted, SEED)), ...batch });
    expect(after).toEqual(before);
  });

  test("trains A and B only, and computes no other weight's gradient", async () => {
    const { model, batch } = await folder(name);
    const adapted = lora(model, options);
    expect(adapted.parameters.length).toBe(2 * adapted.adapters.length);
    expect(adapted.parameters.every((parameter) => /\.lora_[AB]\.weight$/.test(parameter))).toBe(true);
    expect([...adapted.frozen].sort()).toEqual([...model.parameters].sort());
    expect(adapted.ties).toEqual({});
    const values: Record<string, Tensor> = { ...(await initialValues(adapted, SEED)), ...batch };
    const first = await gradients(adapted, values);
    expect(deadNodes(first.graph)).toEqual([]);
    // Products with the ids' side transposed are weights' gradients: one for A, one for B, of each adapter.
    const shapes = new Set(adapted.parameters.map((parameter) => values[parameter]!.shape.join()));
    const weightGradients = first.graph.nodes.filter(
      (node) => node.op === "Gemm" && node.attributes.transA === 1,
    );
    expect(weightGradients.length).toBeGreaterThanOrEqual(adapted.parameters.length);
    expect(shapes.size).toBeGreaterThan(1);
    for (let step = 0; step < 3; step++) {
      const { of } = await gradients(adapted, values);
      adapted.parameters.forEach((parameter, i) => {
        const old = values[parameter]!;
        values[parameter] = Tensor.f32(
          old.shape,
          old.f32().map((x, at) => x - 0.05 * of[i]![at]!),
        );
      });
    }
    expect((await gradients(adapted, values)).loss).toBeLessThan(first.loss);
  });

  test("merged equals unmerged", async () => {
    const { model, batch } = await folder(name);
    const adapted = lora(model, options);
    const values = await trained(adapted);
    const merged = await mergeLora(adapted, new Map(Object.entries(values)), SEED);
    expect([...merged.keys()]).toEqual(adapted.adapters.map(({ weight }) => weight));
    const unmerged = await logits(adapted, { ...values, ...batch });
    const whole = { ...(await initialValues(model)), ...Object.fromEntries(merged), ...batch };
    expect(difference(await logits(model, whole), unmerged)).toBeLessThan(1e-5);
    expect(
      difference(await logits(model, { ...(await initialValues(model)), ...batch }), unmerged),
    ).toBeGreaterThan(0.01);
  });

  test("falls into segments as the model does", async () => {
    const { model } = await folder(name);
    expect(findSegments(lora(model, options)).length).toBe(findSegments(model).length);
  });
});

describe("products that can be adapted", () => {
  /** A model of one product of x by w, in some spelling. */
  function product(
    shape: readonly number[],
    w: readonly number[],
    write: (b: GraphBuilder) => string,
  ): Model {
    const b = new GraphBuilder("product");
    b.input("x", "f32", shape);
    b.input("fc.weight", "f32", w);
    const y = write(b);
    b.op("ReduceSum", [y], { keepdims: 0 }, "loss");
    b.output("loss");
    const chance = new Chance(9);
    return {
      name: "product",
      graph: b.build(),
      parameters: ["fc.weight"],
      ...{ frozen: [], statistics: {}, ties: {}, prediction: y },
      initial: () => chance.f32(w),
    };
  }
  const spellings: [string, Model][] = [
    [
      "Gemm with alpha",
      product([3, 4], [4, 5], (b) => b.op("Gemm", ["x", "fc.weight"], { alpha: float(0.5) }, "y")),
    ],
    ["Gemm transposed", product([3, 4], [5, 4], (b) => b.op("Gemm", ["x", "fc.weight"], { transB: 1 }, "y"))],
    ["MatMul of three axes", product([2, 3, 4], [4, 5], (b) => b.op("MatMul", ["x", "fc.weight"], {}, "y"))],
    [
      "MatMul by a Transpose",
      product([2, 3, 4], [5, 4], (b) =>
        b.op("MatMul", ["x", b.op("Transpose", ["fc.weight"], { perm: [1, 0] })], {}, "y"),
      ),
    ],
    [
      "FusedMatMul",
      product([2, 3, 4], [5, 4], (b) =>
        b.fused("FusedMatMul", ["x", "fc.weight"], { transB: 1, alpha: float(2) }, "y"),
      ),
    ],
  ];
  test.each(spellings)("%s", async (_, model) => {
    const adapted = lora(model, { targets: ["fc"], rank: 2, alpha: 3 });
    const x = new Chance(1).f32(model.graph.inputs[0]!.shape);
    const output = async (of: Model, values: Values) =>
      (await runGraph(engine, extract(of.graph, of.graph.inputs, ["y"]), { ...values, x })).y!;
    const base = { "fc.weight": await model.initial("fc.weight", 0) };
    const chance = new Chance(2);
    const ab = Object.fromEntries(
      adapted.graph.inputs
        .filter(({ name }) => name.includes("lora"))
        .map(({ name, shape }) => [name, chance.f32(shape)]),
    );
    const fixed: LoraModel = { ...adapted, base: { ...model, initial: () => base["fc.weight"] } };
    const merged = await mergeLora(fixed, new Map(Object.entries(ab)), 0);
    const got = await output(adapted, { ...base, ...ab });
    const want = await output(model, Object.fromEntries(merged));
    expect(got.shape).toEqual(want.shape);
    expect(difference(got.f32(), want.f32())).toBeLessThan(1e-5);
  });

  test("and those that cannot are named", () => {
    const left = product([4, 3], [5, 4], (b) => b.op("MatMul", ["fc.weight", "x"], {}, "y"));
    expect(() => lora(left, { targets: ["*"], rank: 1, alpha: 1 })).toThrow(
      new GraphError(
        "MatMul (fc.weight, x) -> (y): only products x·W can be adapted, leave fc.weight out of the targets",
      ),
    );
    const flipped = product(
      [4, 3],
      [4, 5],
      (b) =>
        b.node("FusedMatMul", ["x", "fc.weight"], {
          domain: MICROSOFT,
          attributes: { transA: 1 },
          outputs: ["y"],
        })[0]!,
    );
    expect(() => lora(flipped, { targets: ["*"], rank: 1, alpha: 1 })).toThrow(GraphError);
  });
});

describe("LoRA is refused", () => {
  const refused = async (options: {
    targets?: string[];
    rank?: number;
    alpha?: number;
    dropout?: number;
  }) => {
    const { model } = await folder("llama");
    try {
      lora(model, { targets: ["q_proj"], rank: 1, alpha: 1, ...options });
    } catch (error) {
      expect(error).toBeInstanceOf(GraphError);
      return (error as Error).message;
    }
    throw new Error("was accepted");
  };
  test("with words that say what would do", async () => {
    expect(await refused({ targets: ["q_proj", "query"] })).toMatch(
      /^pattern "query" picks no matrix that the model multiplies by; there are: model\.layers\.0\.self_attn\.q_proj\.weight, .*\(15 in all\)$/,
    );
    expect(await refused({ targets: ["embed_tokens"] })).toMatch(/^pattern "embed_tokens" picks no matrix/);
    expect(await refused({ rank: 0 })).toBe("a LoRA rank is 1 or more, not 0");
    expect(await refused({ dropout: 1 })).toBe("a LoRA dropout is at least 0 and below 1, not 1");
    expect(await refused({ alpha: Number.NaN })).toBe("a LoRA alpha is a number, not NaN");
  });
});

test("dropout is on the adapters' inputs only", async () => {
  const { model } = await folder("llama");
  const adapted = lora(model, { targets: ["q_proj"], rank: 2, alpha: 2, dropout: 0.1 });
  const drops = adapted.graph.nodes.filter(({ op }) => op === "Dropout");
  expect(drops.length).toBe(2);
  for (const drop of drops) {
    const [reader, ...others] = adapted.graph.nodes.filter(({ inputs }) => inputs.includes(drop.outputs[0]!));
    expect(reader!.inputs[1]).toMatch(/q_proj\.lora_A\.weight$/);
    expect(others).toEqual([]);
  }
});

describe("freeze", () => {
  test("takes whole parts of names, and what is tied", async () => {
    const { model } = await folder("gpt2");
    const frozen = freeze(model, ["h.0", "wte"]);
    expect(frozen.frozen.filter((name) => !name.startsWith("transformer.h.0."))).toEqual([
      "transformer.wte.weight",
      "lm_head.weight",
    ]);
    expect(frozen.frozen.length).toBe(14);
    expect(frozen.ties).toEqual({});
    expect(frozen.parameters.length + frozen.frozen.length).toBe(model.parameters.length);
    expect(freeze(model, ["h.*.mlp"]).parameters).not.toContain("transformer.h.1.mlp.c_fc.bias");
    expect(freeze(model, ["lm_head"]).frozen).toContain("transformer.wte.weight");
    expect(freeze(model, ["h.0"]).ties).toEqual(model.ties);
  });

  test("leaves out the gradients of what is frozen", async () => {
    const { model, batch } = await folder("gpt2");
    const values = { ...(await initialValues(model)), ...batch };
    const some = await gradients(freeze(model, ["transformer.h", "wte", "wpe"]), values);
    const all = await gradients(model, values);
    expect(some.of.length).toBe(2);
    expect(some.graph.nodes.length).toBeLessThan(all.graph.nodes.length / 2);
    const whole = all.of[model.parameters.indexOf("transformer.ln_f.weight")]!;
    expect(difference(some.of[0]!, whole)).toBeLessThan(1e-5);
  });

  test("refuses to freeze nothing, and everything", async () => {
    const { model } = await folder("gpt2");
    expect(() => freeze(model, ["h.7"])).toThrow(
      /^pattern "h\.7" picks no parameter; there are: transformer\.wte\.weight/,
    );
    expect(() => freeze(model, ["*"])).toThrow(
      new GraphError("every parameter of gpt2 is frozen: nothing is left to train"),
    );
  });
});
