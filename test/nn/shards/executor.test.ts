/**
 * Ranks that share the work inside a micro-batch train to the weights of one device, whatever the kind, the shares and
 * where the chunks begin, and send what the plan says.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { rolesOf, type Trainable } from "../../../nn/model.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { type ShardChunkOptions, shardChunk } from "../../../nn/shards/chunk.ts";
import { ShardExecutor } from "../../../nn/shards/executor.ts";
import { type CollectiveUse, collectiveBytes, SHARD_KINDS } from "../../../nn/shards/plan.ts";
import { gradientName } from "../../../nn/training.ts";
import { Tensor, TensorError } from "../../../protocols/tensor.ts";
import { LocalRanks } from "../../actors/collectives/local.ts";
import { motley } from "../motley.ts";
import { gpt, gpt2, llama } from "./models.ts";
import { relativeError } from "./ranks.ts";
import {
  ADAMW,
  MICRO_BATCHES,
  type Setup,
  type Sharing,
  type Trained,
  trainSharded,
  trainWhole,
} from "./world.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => {
  expect(engine.usage().tensors).toBe(0);
  return engine.close();
});

const TOLERANCE = 1e-5;

const MUON: OptimizerConfig = {
  ...DEFAULT_ADAMW,
  kind: "muon",
  momentum: 0.95,
  warmup: 1,
  steps: 10,
  epsilon: 1e-5,
};

/** The head's matrix is that of the embedding. */
const tied = (): Trainable => {
  const model = gpt2();
  const [embedding] = model.parameters as [string];
  return { ...model, ties: { [model.parameters.at(-1)!]: embedding } };
};

/** One device's training, once for all kinds. */
const alone = new Map<string, Promise<Trained>>();
const onOneDevice = (name: string, setup: Setup) => {
  const trained = alone.get(name) ?? trainWhole(engine, setup);
  alone.set(name, trained);
  return trained;
};

/** Of a frozen half, behind which adapters are trained too. */
const frozen = (): Trainable => {
  const model = gpt();
  const segments = findSegments(model);
  const first = new Set(segments.slice(0, 3).flatMap(({ parameters }) => parameters));
  const parameters = model.parameters.filter((name) => !first.has(name) && !name.includes("mlp"));
  return { ...model, parameters, frozen: model.parameters.filter((name) => !parameters.includes(name)) };
};

async function compare(name: string, setup: Setup, sharing: Sharing, cuts: readonly number[] = []) {
  const whole = await onOneDevice(name, setup);
  const sharded = await trainSharded(engine, setup, sharing, cuts);
  sharded.losses.forEach((loss, i) => {
    expect(Math.abs(loss / whole.losses[i]! - 1)).toBeLessThan(TOLERANCE);
  });
  expect(Math.abs(sharded.validation / whole.validation - 1)).toBeLessThan(TOLERANCE);
  expect([...sharded.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
  // Of keys' biases, gradients and with them moments are zero but for rounding.
  for (const name of setup.model.parameters) {
    const error = relativeError(sharded.tensors.get(name)!, whole.tensors.get(name)!);
    expect([name, error < TOLERANCE, error]).toEqual([name, true, error]);
  }
  sharded.plans.forEach((plan, i) => {
    const uses = [...plan.forward, ...plan.backward];
    sharded.sentBytes[i]!.forEach((sent, rank) => {
      const said = uses.reduce((sum, use) => sum + bytesOf(use, rank), 0);
      // Chunks of a sum are of whole elements.
      expect(Math.abs(sent / MICRO_BATCHES - said)).toBeLessThanOrEqual(8 * uses.length);
    });
  });
  return sharded;
}

const bytesOf = ({ op, bytes, sizes }: CollectiveUse, rank: number) =>
  collectiveBytes(op, bytes, sizes, rank);

describe.each(SHARD_KINDS)("%s sharing", (kind) => {
  const cases: [string, () => Trainable, number[], number[]][] = [
    ["gpt", gpt, [3, 1], []],
    ["gpt in two chunks", gpt, [1, 1, 1, 1], [3]],
    ["llama in three chunks", llama, [1, 2, 1], [2, 3]],
    ["gpt2 with a tied head", tied, [1, 2], []],
    ["gpt with nothing to train in its first chunk", frozen, [1, 2], [3]],
    ["gpt2 with its head tied to another chunk", tied, [1, 1, 3], [2]],
  ];
  test.each(cases)("of %s trains to one device's weights", async (_, make, weights, cuts) => {
    await compare(
      make.name,
      { model: make(), steps: 3 },
      { kind, ranks: weights.length, shares: { weights } },
      cuts,
    );
  });

  test("comes to the same weights with several micro-batches in flight, and with less that is kept of them", async () => {
    const model = gpt();
    const sharing = { kind, ranks: 2 };
    const kept = await trainSharded(engine, { model, steps: 2 }, sharing, [3]);
    for (const other of [{ recompute: true }, { inFlight: true }, { inFlight: true, recompute: true }]) {
      const again = await trainSharded(engine, { model, steps: 2, ...other }, sharing, [3]);
      for (const [name, tensor] of kept.tensors) {
        expect([name, Buffer.compare(again.tensors.get(name)!.bytes, tensor.bytes)]).toEqual([name, 0]);
      }
    }
  });
});

test("whole matrices, as sequence sharing has them, are what Muon wants", async () => {
  await compare("muon", { model: gpt(), steps: 2, optimizer: MUON }, { kind: "sequence", ranks: 2 });
});

describe("a rank", () => {
  const chunkOf = (model: Trainable, options: Partial<ShardChunkOptions> = {}) => {
    const segments = findSegments(model);
    const [first, last] = [segments[1]!, segments[2]!];
    return shardChunk(cutGraph(model.graph, segments, 1, 3), model, {
      ...{ kind: "tensor-sequence", ranks: 2, rank: 0, recompute: false },
      ...{ input: first.input, output: last.output },
      ...options,
    });
  };
  const options = { slots: 1, optimizer: ADAMW, totalParameters: 1 };

  test("takes whole values or its own parts, and says how they are cut", async () => {
    const chunk = chunkOf(gpt(), { rank: 1 });
    const executor = await ShardExecutor.create(engine, chunk, new LocalRanks(2).collectives[1]!, options);
    try {
      const name = "h0.attn.q.weight";
      const cut = executor.cuts.get(name)!;
      expect(executor.cuts.get(`m.${name}`)).toEqual(cut);
      expect(executor.cuts.has("h0.ln1.weight")).toBe(false);
      const whole = Tensor.f32(
        [16, 16],
        Array.from({ length: 256 }, (_, i) => i),
      );
      await executor.put(new Map([[name, whole]]));
      const own = (await executor.tensors([name])).get(name)!;
      expect(own.shape).toEqual([16, 8]);
      expect([...own.f32().slice(0, 9)]).toEqual([8, 9, 10, 11, 12, 13, 14, 15, 24]);
      const part = Tensor.f32([16, 8], new Float32Array(128).fill(2));
      await executor.put(new Map([[name, part]]));
      expect((await executor.tensors([name])).get(name)!.f32()[127]).toBe(2);
      expect(executor.put(new Map([[name, Tensor.zeros("f32", [16, 5])]]))).rejects.toThrow(TensorError);
      expect(() => executor.requireLoaded()).toThrow(/parameter h0.ln1.weight is missing/);
      const { input, output } = executor.graphs;
      expect(executor.has(input!)).toBe(true);
      expect(executor.has(gradientName(output!))).toBe(true);
      expect(executor.has("ids")).toBe(false);
      expect(() => executor.write(0, input!, Tensor.zeros("f32", [3, 3]))).toThrow(TensorError);
      expect(() => executor.write(0, "ids", Tensor.zeros("f32", [3, 3]))).toThrow(/has no value "ids"/);
      expect(() => executor.value(4, output!)).toThrow(/no slot 4 of 1/);
      expect(executor.backwardWeights(0)).rejects.toThrow(/is not split/);
    } finally {
      executor.release();
    }
  });

  test("whose neighbour is gone gives up its pass", async () => {
    const local = new LocalRanks(2);
    const executor = await ShardExecutor.create(engine, chunkOf(gpt()), local.collectives[0]!, options);
    try {
      const pass = executor.forward(0);
      const reason = new Error("rank 1 is gone");
      setTimeout(() => local.collectives[0]!.abandon(reason));
      expect(pass).rejects.toBe(reason);
      await pass.catch(() => {});
    } finally {
      executor.release();
    }
  });

  test("refuses what it cannot do", async () => {
    const create = (optimizer: OptimizerConfig, rank = 0) =>
      ShardExecutor.create(engine, chunkOf(gpt()), new LocalRanks(2).collectives[rank]!, {
        ...options,
        optimizer,
      });
    expect(create(MUON)).rejects.toThrow(
      /muon orthogonalises whole matrices.*h0\.attn\.q\.weight.*use adamw/,
    );
    expect(create(ADAMW, 1)).rejects.toThrow(/rank 0 of 2 .* given collectives of rank 1 of 2/);
    const model = motley();
    const segments = findSegments(model);
    const whole = () =>
      shardChunk(cutGraph(model.graph, segments, 0, segments.length), model, {
        ...{ kind: "tensor", ranks: 2, rank: 0, recompute: false, input: null, output: null },
      });
    expect(whole).toThrow(/moves with every micro-batch; use data or pipeline parallelism/);
    const b = new GraphBuilder("half");
    const x = b.input("x", "bf16", [4, 8]);
    const [w, v] = [b.input("w", "f32", [8, 8]), b.input("v", "f32", [8, 8])];
    const cast = (name: string) => b.op("Cast", [name], { to: 16 });
    b.output(b.op("MatMul", [b.op("Relu", [b.op("MatMul", [x, cast(w)])]), cast(v)]));
    const half = () =>
      shardChunk(b.build(), rolesOf(["w", "v"]), {
        ...{ kind: "tensor", ranks: 2, rank: 0, recompute: false, input: null, output: "y" },
      });
    expect(half).toThrow(GraphError);
    expect(half).toThrow(/is bf16, only f32 does/);
  });
});
