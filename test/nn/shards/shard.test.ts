/**
 * A sharded graph computes what the whole one does: losses, gradients of every parameter and of the input, whatever the
 * model, the kind and the shares. All ranks run in one process (`ranks.ts`), as devices will.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { lora } from "../../../nn/finetune/lora.ts";
import { COUNTERS, type Model, type Roles, type Trainable } from "../../../nn/model.ts";
import type { GptConfig } from "../../../nn/models/gpt.ts";
import type { Graph, Node } from "../../../nn/onnx/graph.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import type { Shares } from "../../../nn/shards/assign.ts";
import type { Cut } from "../../../nn/shards/layout.ts";
import type { ShardKind } from "../../../nn/shards/plan.ts";
import { type ShardOptions, shard } from "../../../nn/shards/shard.ts";
import { sizesOf } from "../../../nn/shards/slices.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { randomValues } from "../run.ts";
import { GPT, gpt, gpt2, gptBlock, LLAMA, llama, smallVit } from "./models.ts";
import { runSharded, runWhole } from "./ranks.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

const TOLERANCE = 1e-5;
const KINDS = ["tensor", "sequence", "tensor-sequence"] as const;

/** Of weights, none are cut where only tokens are. */
const sharesOf = (kind: ShardKind, heads: readonly number[]): Shares =>
  kind === "sequence" ? { weights: heads } : { heads };

/** Runs both ways, with random values and gradients of the outputs, and compares all there is. */
async function compare(graph: Graph, roles: Roles, options: ShardOptions, seed = 1) {
  const plan = shard(graph, roles, options);
  const chance = new Chance(seed);
  const counters = Object.fromEntries(COUNTERS.map((name, i) => [name, Tensor.i64([], [i + 3])]));
  const values = { ...randomValues(graph, chance, 5), ...counters };
  const seeds = Object.fromEntries(graph.outputs.map(({ name, shape }) => [name, chance.f32(shape, 0.5, 1)]));
  const sharded = await runSharded(engine, plan, values, seeds);
  const whole = await runWhole(engine, plan, graph, values, seeds);
  const gradients = Object.values(whole.gradients).flatMap((tensor) => [...tensor.f32()]);
  const largest = Math.max(...gradients.map(Math.abs));
  const expectClose = (name: string, actual: Tensor, expected: Tensor) => {
    expect([name, actual.shape]).toEqual([name, expected.shape]);
    const [a, b] = [actual.f32(), expected.f32()];
    // Some gradients are zero but for rounding: those of key biases.
    const scale = Math.max(largest * 1e-2, ...b.map(Math.abs));
    const error = Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / scale;
    expect([name, error < TOLERANCE, error]).toEqual([name, true, error]);
  };
  for (const { name } of graph.outputs) expectClose(name, sharded.outputs[name]!, whole.outputs[name]!);
  expect(Object.keys(sharded.gradients)).toEqual(Object.keys(whole.gradients));
  for (const [name, tensor] of Object.entries(whole.gradients)) {
    expectClose(name, sharded.gradients[name]!, tensor);
  }
  if (whole.inputGradient) expectClose("input", sharded.inputGradient!, whole.inputGradient);
  expect(sharded.forwardBytes).toBe(plan.forwardBytes);
  expect(sharded.backwardBytes).toBe(plan.backwardBytes);
  return { plan, sharded, whole };
}

describe.each(KINDS)("%s parallelism", (kind) => {
  const cases: [string, () => Trainable, number[]][] = [
    ["gpt", gpt, [3, 1]],
    ["gpt, three ranks", gpt, [1, 2, 1]],
    ["gpt2", gpt2, [2, 3]],
    ["gpt2, three ranks", gpt2, [1, 1, 3]],
    ["llama", llama, [2, 6]],
    ["llama, three ranks", llama, [2, 4, 2]],
    ["vit", smallVit, [1, 3]],
    ["vit, three ranks", smallVit, [2, 1, 1]],
  ];
  test.each(cases)("%s computes what the whole model does", async (_, make, heads) => {
    const model = make();
    const { plan, sharded, whole } = await compare(model.graph, model, {
      kind,
      ranks: heads.length,
      shares: sharesOf(kind, heads),
    });
    const least = kind === "sequence" ? 0 : model.parameters.length / 3;
    const count = Object.values(plan.holdings).filter(({ cut }) => cut).length;
    expect(kind === "sequence" ? count : Math.min(count, least)).toBe(least);
    for (const bytes of sharded.stashBytes) expect(bytes).toBeLessThan(whole.stashBytes[0]!);
  });

  test("a range of segments takes its input, and gives its gradient, as the plan says", async () => {
    const { graph, roles, input, output } = gptBlock(GPT, 3);
    const shares = sharesOf(kind, [3, 1]);
    const { plan } = await compare(graph, roles, { kind, ranks: 2, shares, input });
    expect(plan.input!.name).toBe(input);
    expect(plan.outputs.map(({ name }) => name)).toEqual([output]);
    // Of six tokens of three sequences each.
    const cut = (at: number): Cut => ({ axis: 0, ranges: [[[0, at]], [[at, 18]]] });
    const expected = { tensor: null, sequence: cut(15), "tensor-sequence": cut(14) };
    expect(plan.input!.cut).toEqual(expected[kind]);
    expect(plan.outputs[0]!.cut).toEqual(plan.input!.cut);
  });

  test("dropout drops what it drops in the whole model", async () => {
    const { graph, ...roles } = gpt();
    const drops = ["Softmax", "Gelu", "Gather"];
    const initializers = new Map([...graph.initializers, ["rate", Tensor.f32([], [0.3])] as const]);
    initializers.set("training", new Tensor("bool", [], Uint8Array.of(1)));
    const nodes = graph.nodes.flatMap((node): Node[] => {
      const [output] = node.outputs as [string];
      const residual = node.op === "Gemm" && node.inputs[1]!.includes("proj");
      if (!residual && !drops.includes(node.op)) return [node];
      const inputs = [`${output}.kept`, "rate", "training"];
      const drop = { op: "Dropout", domain: "", inputs, outputs: [output], attributes: {} };
      return [{ ...node, outputs: [`${output}.kept`] }, drop];
    });
    const dropping = { ...graph, initializers, nodes };
    const { plan } = await compare(dropping, roles, { kind, ranks: 2, shares: sharesOf(kind, [3, 1]) });
    expect(plan.forwardBytes).toBe(shard(graph, roles, { kind, ranks: 2 }).forwardBytes);
  });

  test("of any sizes and shares", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const chance = new Chance(seed);
      const ranks = chance.int(2, 3);
      const parts = () => Array.from({ length: ranks }, () => chance.int(1, 3));
      const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);
      const heads = parts();
      const size = 2 * chance.int(1, 3);
      const [rows, context] = [chance.int(1, 3), chance.int(3, 5)];
      const total = sum(heads);
      if (chance.unit() < 0.5) {
        const config = { layers: 1, width: total * size, heads: total, context, vocabulary: 7 };
        const columns = heads.map((count) => count * 4 * size);
        const given = kind === "sequence" ? { weights: heads } : { heads, columns };
        await compare(gpt(rows, config).graph, gpt(rows, config), { kind, ranks, shares: given }, seed);
      } else {
        const group = chance.int(1, 3);
        const columns = parts();
        const config = {
          ...LLAMA,
          heads: total * group,
          keyHeads: total,
          headSize: size,
          inner: sum(columns),
        };
        const model = llama(rows, { ...config, width: 6, layers: [{ window: null, rotated: true }] });
        const cut = { heads: heads.map((count) => count * group), columns };
        const shares = kind === "sequence" ? { weights: heads } : cut;
        await compare(model.graph, model, { kind, ranks, shares }, seed);
      }
    }
  });
});

describe.each(["tensor", "tensor-sequence"] as const)("%s parallelism", (kind) => {
  test("adapters are cut with the matrices that they stand beside", async () => {
    const base: Model = {
      ...llama(),
      name: "llama",
      prediction: "logits",
      initial: () => Tensor.zeros("f32", []),
    };
    const model = lora(base, { targets: ["self_attn", "mlp"], rank: 2, alpha: 4 });
    const { plan } = await compare(model.graph, model, { kind, ranks: 2, shares: { heads: [6, 2] } });
    const cutOf = (name: string) => plan.holdings[`model.layers.0.${name}.weight`]!.cut;
    for (const name of ["self_attn.q_proj", "mlp.up_proj"]) {
      expect(cutOf(`${name}.lora_A`)).toBeNull();
      expect(cutOf(`${name}.lora_B`)).toEqual(cutOf(name)!);
    }
    for (const name of ["self_attn.o_proj", "mlp.down_proj"]) {
      expect(cutOf(`${name}.lora_A`)).toEqual(cutOf(name)!);
      expect(cutOf(`${name}.lora_B`)).toBeNull();
    }
  });

  test("a head is cut by its vocabulary, and sends a few numbers of each row", async () => {
    const model = gpt();
    const segments = findSegments(model);
    const { input } = segments.at(-1)!;
    const head = cutGraph(model.graph, segments, segments.length - 1, segments.length);
    const shares = { vocabulary: [8, 2, 1] };
    const { plan } = await compare(head, model, { kind, ranks: 3, shares, input, vocabulary: true });
    expect(sizesOf(plan.holdings["head.weight"]!.cut!)).toEqual([8, 2, 1]);
    expect(plan.costs.map(({ flops }) => flops * 11)).toEqual(
      [8, 2, 1].map((n) => n * segments.at(-1)!.flops),
    );
    const [rows, width] = [12, GPT.width];
    const sent = 4 * rows * (3 + 1);
    expect(plan.forwardBytes).toBe(sent + (kind === "tensor-sequence" ? 4 * rows * width : 0));
    // Where rows come in, the gradient of what was whole outside is gathered.
    expect(plan.backwardBytes).toBe(4 * rows * width * (kind === "tensor-sequence" ? 2 : 1));
  });
});

describe("what ranks send", () => {
  const config: GptConfig = { layers: 2, width: 24, heads: 6, context: 5, vocabulary: 7 };
  const [T, B, D] = [5, 3, 24];
  const { graph, roles, input } = gptBlock(config, B);
  const activation = 4 * T * B * D;
  const collectives = (kind: "tensor" | "tensor-sequence", inputGradient = true) => {
    const plan = shard(graph, roles, { kind, ranks: 2, input, inputGradient });
    const all = [...plan.phases.flatMap(({ transfers }) => transfers), ...plan.transfers];
    const ops = (direction: "forward" | "backward") => all.flatMap((each) => each[direction] ?? []);
    return { plan, forward: ops("forward"), backward: ops("backward") };
  };

  test("in tensor parallelism is an all-reduce after each half of a block, forward and backward", () => {
    const { plan, forward, backward } = collectives("tensor");
    expect(forward).toEqual(["all-reduce", "all-reduce"]);
    expect(backward).toEqual(["all-reduce", "all-reduce"]);
    expect([plan.forwardBytes, plan.backwardBytes, plan.gradientBytes]).toEqual([
      2 * activation,
      2 * activation,
      0,
    ]);
  });

  test("by tensor and sequence is each of them in halves, and the gradients of norms and added biases", () => {
    const { plan, forward, backward } = collectives("tensor-sequence");
    const half = ["all-gather", "reduce-scatter"] as const;
    expect(forward).toEqual([...half, ...half]);
    expect(backward).toEqual(["reduce-scatter", "all-gather", "reduce-scatter", "all-gather"]);
    // What leaves is gathered.
    expect(plan.forward.map(({ op }) => op)).toEqual([...half, ...half, "all-gather"]);
    expect(plan.backward.map(({ op }) => op)).toEqual([...backward].reverse().concat("all-gather"));
    expect([plan.forwardBytes, plan.backwardBytes]).toEqual([5 * activation, 5 * activation]);
    const summed = Object.keys(plan.holdings).filter((name) => plan.holdings[name]!.gradient === "sum");
    expect(summed.map((name) => name.slice(3))).toEqual([
      ...["ln1.weight", "ln1.bias", "attn.proj.bias", "ln2.weight", "ln2.bias", "mlp.proj.bias"],
    ]);
    expect(plan.gradientBytes).toBe(4 * 6 * D);
  });

  test("backward is less where the gradient of the input is not wanted", () => {
    const { plan } = collectives("tensor", false);
    // The first norm is trained: the gradient of its result is wanted all the same.
    expect(plan.backwardBytes).toBe(2 * activation);
    expect(plan.phases[0]!.trained).not.toContain(input);
  });
});

test("a rank holds its share of the matrices and does its share of their products", () => {
  const config: GptConfig = { layers: 2, width: 24, heads: 6, context: 5, vocabulary: 7 };
  const [T, B, D] = [5, 3, 24];
  const { graph, roles, input } = gptBlock(config, B);
  const plan = shard(graph, roles, { kind: "tensor", ranks: 2, shares: { heads: [4, 2] }, input });
  const [rows, alike] = [T * B, 6 * D];
  const share = (part: number) => ({
    flops: part * (4 * 2 * rows * D * D + 2 * 2 * rows * D * 4 * D + 2 * 2 * B * T * T * D),
    parameterBytes: 4 * (alike + part * (4 * D * D + 3 * D + 2 * 4 * D * D + 4 * D)),
    frozenBytes: 0,
  });
  const near = (cost: object) => Object.values(cost).map((value) => Math.round(value as number));
  expect(plan.costs.map(near)).toEqual([share(4 / 6), share(2 / 6)].map(near));
});
