/** What a plan is made of, and what is refused. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { importModel } from "../../../nn/import/import.ts";
import { rolesOf } from "../../../nn/model.ts";
import { resnet } from "../../../nn/models/resnet.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { apportion } from "../../../nn/shards/assign.ts";
import { joinHoldings, sliceHoldings } from "../../../nn/shards/holdings.ts";
import { type Collective, collectiveBytes, SHARD_KINDS } from "../../../nn/shards/plan.ts";
import { type ShardOptions, shard } from "../../../nn/shards/shard.ts";
import { joinTensors, sizesOf } from "../../../nn/shards/slices.ts";
import { Tensor, TensorError } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/models/losses.json";
import { Chance } from "../engine/operator-cases.ts";
import { parameterData } from "../import/values.ts";
import { deadNodes, randomValues } from "../run.ts";
import { gpt, gpt2, llama } from "./models.ts";
import { relativeError, runSharded, runWhole } from "./ranks.ts";

describe("holdings", () => {
  test("are cut by heads and columns, joined matrices in each of their parts", () => {
    const model = gpt2();
    const { holdings } = shard(model.graph, model, { kind: "tensor", ranks: 2, shares: { heads: [3, 2] } });
    const h = "transformer.h.0";
    // Width 20 in 5 heads of 4: three heads of queries, keys and values each.
    const joined = [
      [
        [0, 12],
        [20, 32],
        [40, 52],
      ],
      [
        [12, 20],
        [32, 40],
        [52, 60],
      ],
    ];
    expect(holdings[`${h}.attn.c_attn.weight`]).toEqual({
      shape: [20, 60],
      cut: { axis: 1, ranges: joined } as never,
      gradient: "part",
    });
    expect(holdings[`${h}.attn.c_attn.bias`]!.cut).toEqual({ axis: 0, ranges: joined } as never);
    expect(holdings[`${h}.attn.c_proj.weight`]!.cut).toEqual({ axis: 0, ranges: [[[0, 12]], [[12, 20]]] });
    expect(holdings[`${h}.attn.c_proj.bias`]).toEqual({ shape: [20], cut: null, gradient: "whole" });
    // 24 columns in the proportion of the heads.
    expect(sizesOf(holdings[`${h}.mlp.c_fc.weight`]!.cut!)).toEqual([14, 10]);
    expect(holdings[`${h}.mlp.c_proj.weight`]!.cut!.axis).toBe(0);
    expect(holdings[`${h}.ln_1.weight`]!.cut).toBeNull();
  });

  test("cut for the ranks and joined again are the whole model's", () => {
    const model = llama();
    const plan = shard(model.graph, model, { kind: "tensor", ranks: 3, shares: { heads: [2, 4, 2] } });
    const chance = new Chance(3);
    const values = new Map(Object.entries(randomValues(model.graph, chance, 5)));
    const parts = [0, 1, 2].map((rank) => sliceHoldings(plan, values, rank));
    for (const [rank, own] of parts.entries()) {
      for (const { graphs } of plan.phases) {
        for (const { name, shape } of graphs[rank]!.inputs) {
          if (own.has(name)) expect([name, own.get(name)!.shape]).toEqual([name, shape]);
        }
      }
    }
    const whole = joinHoldings(plan, parts);
    expect([...whole.keys()]).toEqual([...model.parameters]);
    for (const [name, tensor] of whole) {
      expect(tensor.shape).toEqual(values.get(name)!.shape);
      expect(Buffer.compare(tensor.bytes, values.get(name)!.bytes)).toBe(0);
    }
    const missing = new Map(parts[1]!);
    missing.delete("model.layers.0.mlp.up_proj.weight");
    expect(() => joinHoldings(plan, [parts[0]!, missing, parts[2]!])).toThrow(
      new TensorError('"model.layers.0.mlp.up_proj.weight" is missing of rank 1'),
    );
    const { cut } = plan.holdings["model.layers.0.mlp.up_proj.weight"]!;
    expect(() => joinTensors([Tensor.zeros("f32", [1, 16]), Tensor.zeros("f32", [2, 16])], cut!)).toThrow(
      TensorError,
    );
  });
});

test("phases have no node, constant or input that nothing reads", () => {
  const model = llama();
  for (const kind of SHARD_KINDS) {
    for (const { graphs } of shard(model.graph, model, { kind, ranks: 2 }).phases) {
      for (const graph of graphs) {
        expect(deadNodes(graph)).toEqual([]);
        const read = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
        for (const name of graph.initializers.keys()) expect(read).toContain(name);
        for (const { name } of graph.inputs) expect(read).toContain(name);
      }
    }
  }
});

describe("shares", () => {
  test("are apportioned by largest remainders, with at least one for each", () => {
    expect(apportion(10, [1, 1, 1])).toEqual([4, 3, 3]);
    expect(apportion(7, [2, 1])).toEqual([5, 2]);
    expect(apportion(4, [100, 1, 1])).toEqual([2, 1, 1]);
    const chance = new Chance(7);
    for (let i = 0; i < 200; i++) {
      const weights = Array.from({ length: chance.int(1, 5) }, () => chance.int(1, 50));
      const total = chance.int(weights.length, 100);
      const shares = apportion(total, weights);
      expect(shares.reduce((a, b) => a + b, 0)).toBe(total);
      expect(Math.min(...shares)).toBeGreaterThanOrEqual(1);
    }
  });

  test("go by weights where nothing else is said, in groups of heads that belong together", () => {
    const model = llama();
    const { holdings } = shard(model.graph, model, {
      kind: "tensor",
      ranks: 2,
      shares: { weights: [2.2, 0.9] },
    });
    const sizes = (name: string) => sizesOf(holdings[`model.layers.0.${name}.weight`]!.cut!);
    // Four groups of two heads of four; twenty columns.
    expect(sizes("self_attn.q_proj")).toEqual([24, 8]);
    expect(sizes("mlp.up_proj")).toEqual([14, 6]);
  });

  const refused: [string, Partial<ShardOptions>, RegExp][] = [
    ["that do not add up", { shares: { heads: [3, 4] } }, /\[3,4\] heads make 7, there are 8/],
    ["that part heads of one key head", { shares: { heads: [3, 5] } }, /go in groups of 2, as many as share/],
    ["of nothing", { shares: { heads: [8, 0] } }, /whole numbers of at least 1/],
    ["for another number of ranks", { shares: { columns: [10, 5, 5] } }, /\[10,5,5\] columns.* for 2 ranks/],
    ["of columns that do not add up", { shares: { columns: [10, 9] } }, /columns make 19, there are 20/],
    [
      "of rows that do not add up",
      { kind: "tensor-sequence", shares: { rows: [9, 9] } },
      /rows make 18, there are 12/,
    ],
    ["of no weight", { shares: { weights: [1, 0] } }, /weights of \[1,0\]: numbers above 0 for 2 ranks/],
    ["for one rank", { ranks: 1 }, /at least 2/],
  ];
  test.each(refused)("%s are refused", (_, options, message) => {
    const model = llama();
    const run = () => shard(model.graph, model, { kind: "tensor", ranks: 2, ...options });
    expect(run).toThrow(GraphError);
    expect(run).toThrow(message);
  });
});

describe("what cannot be sharded", () => {
  test("is a segment without a second product, as a head that is not cut by its vocabulary", () => {
    const model = gpt();
    const segments = findSegments(model);
    const head = cutGraph(model.graph, segments, segments.length - 1, segments.length);
    const { input } = segments.at(-1)!;
    const run = () => shard(head, model, { kind: "tensor", ranks: 2, input, vocabulary: false });
    expect(run).toThrow(
      /^graph gpt cannot be sharded among 2 ranks: Gemm .*head\.weight.* SoftmaxCrossEntropyLoss/,
    );
    // Its rows can: every rank does the loss of its own.
    const plan = shard(head, model, { kind: "tensor-sequence", ranks: 2, input });
    expect(plan.costs[0]!.flops).toBe(segments.at(-1)!.flops / 2);
    expect(plan.forwardBytes).toBe(4);
  });

  test("is a segment of lookups", () => {
    const model = gpt();
    const embedding = cutGraph(model.graph, findSegments(model), 0, 1);
    expect(() => shard(embedding, model, { kind: "tensor", ranks: 2 })).toThrow(/no product/);
  });

  test("is an attention of fewer groups of heads than ranks", () => {
    const model = llama();
    const segments = findSegments(model);
    const attention = cutGraph(model.graph, segments, 1, 2);
    const run = () => shard(attention, model, { kind: "tensor", ranks: 5, input: segments[1]!.input });
    expect(run).toThrow(/4 groups of heads that can be apart are too few for 5 ranks/);
  });

  test("is an operator that works across columns, which the message names", () => {
    const b = new GraphBuilder("mixed");
    const x = b.input("x", "f32", [4, 6]);
    const h = b.op("Softmax", [b.op("Gemm", [x, b.input("w", "f32", [6, 8])], {}, "h")], { axis: -1 }, "s");
    b.output(b.op("ReduceSum", [b.op("Gemm", [h, b.input("v", "f32", [8, 6])])], { keepdims: 0 }));
    expect(() => shard(b.build(), rolesOf(["w", "v"]), { kind: "tensor", ranks: 2 })).toThrow(
      "graph mixed cannot be sharded among 2 ranks: Gemm (x, w) -> (h) leads to Softmax (h) -> (s), which works along axis 1, which is cut",
    );
  });

  test("is what has no tokens, or too few of them", () => {
    const cnn = resnet({ depth: 18, width: 4, inputSize: 8, channels: 1, classes: 2 }, 4);
    expect(() => shard(cnn.graph, cnn, { kind: "sequence", ranks: 2 })).toThrow(
      /no product of a matrix is with rows of tokens; use data or pipeline parallelism/,
    );
    const model = gpt(9);
    expect(() => shard(model.graph, model, { kind: "sequence", ranks: 7 })).toThrow(
      /leaves no axis of tokens that is long enough; use data or pipeline/,
    );
    const run = () => shard(model.graph, model, { kind: "sequence", ranks: 2, shares: { tokens: [4, 1] } });
    expect(run).toThrow(/shares of \[4,1\] tokens make 5, there are 6/);
  });

  test("is an input that is not there", () => {
    const model = gpt();
    expect(() => shard(model.graph, model, { kind: "tensor", ranks: 2, input: "h" })).toThrow(/no input "h"/);
  });
});

test("collectives send what a ring sends", () => {
  const total = (op: Collective, sizes: number[]) =>
    sizes.reduce((sum, _, rank) => sum + collectiveBytes(op, 1200, sizes, rank), 0);
  for (const sizes of [
    [1, 1],
    [3, 1, 2],
  ]) {
    expect(total("all-gather", sizes)).toBeCloseTo((sizes.length - 1) * 1200);
    expect(total("reduce-scatter", sizes)).toBeCloseTo((sizes.length - 1) * 1200);
    expect(total("all-reduce", sizes)).toBeCloseTo(2 * (sizes.length - 1) * 1200);
  }
});

type Entry = {
  inputs: Record<string, [string, number[]]>;
  loss: string;
  parameters: Record<string, number[]>;
};

test.each(["gpt2", "llama", "vit"])(
  "PyTorch's export of a %s shards, and computes the same",
  async (name) => {
    const entry = (fixture as unknown as Record<string, Entry>)[name]!;
    const file = readFileSync(join(import.meta.dir, `../../fixtures/models/${name}.onnx`));
    const model = await importModel(new Uint8Array(file), {
      rows: Object.values(entry.inputs)[0]![1][0]!,
      loss: entry.loss,
      external: (location) => parameterData(location, entry.parameters),
    });
    const engine = createReferenceEngine();
    try {
      const [loss] = model.graph.outputs.map((output) => output.name) as [string];
      const values = randomValues(model.graph, new Chance(2), 2);
      const seeds = { [loss]: Tensor.f32([], [1]) };
      let whole: Awaited<ReturnType<typeof runWhole>> | undefined;
      for (const kind of SHARD_KINDS) {
        const plan = shard(model.graph, model, { kind, ranks: 2 });
        whole ??= await runWhole(engine, plan, model.graph, values, seeds);
        const sharded = await runSharded(engine, plan, values, seeds);
        // Two layers of an attention and a feed-forward layer, four matrices at the least.
        const matrices = Object.values(plan.holdings).filter(({ cut, shape }) => cut && shape.length === 2);
        if (kind !== "sequence") expect(matrices.length).toBeGreaterThanOrEqual(8);
        else {
          // Keys and values of both layers, and nothing else of a token's own work.
          expect(matrices).toEqual([]);
          expect(plan.forward.filter(({ op }) => op === "all-gather").length).toBeGreaterThanOrEqual(4);
        }
        expect(relativeError(sharded.outputs[loss]!, whole.outputs[loss]!)).toBeLessThan(1e-6);
        for (const [parameter, gradient] of Object.entries(whole.gradients)) {
          const error = relativeError(sharded.gradients[parameter]!, gradient);
          expect([parameter, error < 1e-5, error]).toEqual([parameter, true, error]);
        }
      }
    } finally {
      await engine.close();
    }
  },
);
