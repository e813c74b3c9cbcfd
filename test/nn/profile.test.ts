/** What a profile promises: figures of every segment, whole and in the parts that were asked for, and nothing left behind. */

import { afterAll, describe, expect, test } from "bun:test";
import { createReferenceEngine } from "../../nn/engine/reference/reference.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { peakBytes } from "../../nn/memory/peak.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { measureRounds } from "../../nn/profile/rounds.ts";
import { atRows } from "../../nn/profile/rows.ts";
import { type ModelProfile, type ProfileOptions, profileModel } from "../../nn/profile.ts";
import { cutGraph, findSegments } from "../../nn/segments.ts";
import { SHARD_KINDS } from "../../nn/shards/plan.ts";
import { keptBytes, trainingGraphs } from "../../nn/training.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { motley } from "./motley.ts";

const MODEL = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 16 }, 2);
const OPTIONS: ProfileOptions = {
  optimizer: { ...DEFAULT_ADAMW, warmup: 0, steps: 10 },
  ...{ microBatches: 2, budgetMs: 5, memoryBytes: 2 ** 28, split: false, sharings: [] },
};
const now = () => performance.now();
const engine = createReferenceEngine(now);
afterAll(() => engine.close());

describe("a profile", () => {
  test("has every segment's times, sizes from the graphs, and leaves nothing in the engine", async () => {
    const { segments, chunk } = await profileModel(engine, MODEL, OPTIONS, now);
    const found = findSegments(MODEL);
    expect(segments.length).toBe(found.length);
    for (const [i, segment] of segments.entries()) {
      expect(Math.min(segment.forwardMs, segment.backwardMs, segment.stepMs)).toBeGreaterThanOrEqual(0);
      const { input, output } = found[i]!;
      const graphs = trainingGraphs(cutGraph(MODEL.graph, found, i, i + 1), MODEL, {
        ...{ input, output, inputGradient: i > 0, microBatches: 2, recompute: false, split: true },
      });
      expect(segment.stashBytes).toBe(keptBytes(graphs));
    }
    expect(segments.reduce((sum, { jointMs }) => sum + jointMs, chunk.jointMs)).toBeGreaterThan(0);
    // Layers are equal, and measured once.
    expect(segments[1]).toEqual(segments[3]!);
    for (const ms of Object.values(chunk)) expect(ms).toBeGreaterThanOrEqual(0);
    expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
  });

  test("has the backward pass in two, and a rank's part, where these are asked for", async () => {
    const options: ProfileOptions = { ...OPTIONS, split: true, sharings: SHARD_KINDS };
    const { segments } = await profileModel(engine, MODEL, options, now);
    for (const segment of segments) {
      expect(segment.backwardInputMs).toBeGreaterThanOrEqual(0);
      expect(segment.backwardWeightMs).toBeGreaterThanOrEqual(0);
    }
    for (const kind of SHARD_KINDS) {
      const { ranks, forwardMs, backwardMs, forwardRuns } = segments[1]!.sharded![kind]!;
      expect([ranks, forwardMs >= 0, backwardMs >= 0, forwardRuns > 0]).toEqual([2, true, true, true]);
    }
    expect(engine.usage().tensors).toBe(0);
  });

  test("holds no more at once than it may", async () => {
    const most = { tensorBytes: 0 };
    const allocate = engine.allocate.bind(engine);
    const watched = Object.assign(Object.create(engine), {
      allocate: (...args: Parameters<typeof allocate>) => {
        const tensor = allocate(...args);
        most.tensorBytes = Math.max(most.tensorBytes, engine.usage().tensorBytes);
        return tensor;
      },
    });
    await profileModel(watched, MODEL, OPTIONS, now);
    const together = most.tensorBytes;
    most.tensorBytes = 0;
    const { segments } = await profileModel(watched, MODEL, { ...OPTIONS, memoryBytes: 1 }, now);
    expect(most.tensorBytes).toBeLessThan(together / 2);
    expect(segments.length).toBe(findSegments(MODEL).length);
  });

  test("is made of a model with statistics, frozen values, dropout and ties", async () => {
    const model = motley({ freeze: ["embedding", "w0"] });
    const { segments } = await profileModel(engine, model, { ...OPTIONS, split: true }, now);
    expect(segments.length).toBe(findSegments(model).length);
    expect(segments[0]!.backwardMs).toBe(0);
    expect(engine.usage().tensors).toBe(0);
  });

  test("goes by a clock that stands still, too", async () => {
    const { segments } = await profileModel(engine, MODEL, OPTIONS, () => 0);
    expect(segments.every(({ stepMs }) => stepMs === 0)).toBe(true);
  });
});

test("a size that was not measured is on the line through the nearest two", () => {
  const of = (forwardMs: number, stashBytes: number): ModelProfile => ({
    segments: [{ forwardMs, backwardMs: 2, jointMs: 3, stepMs: 4, stashBytes, workingBytes: 0 }],
    chunk: { forwardMs: 0.1, backwardMs: 0.1, jointMs: 0.1, stepMs: 1, otherMs: 0.2 },
  });
  const profiles = new Map([
    [2, of(3, 200)],
    [4, of(5, 400)],
    [16, of(17, 1600)],
  ]);
  const forward = (rows: number) => atRows(profiles, rows).segments[0]!.forwardMs;
  expect([1, 2, 3, 4, 10, 16, 32].map(forward)).toEqual([2, 3, 4, 5, 11, 17, 33]);
  expect(atRows(profiles, 3)).toEqual(of(4, 300));
  expect(() => atRows(new Map([[2, of(3, 200)]]), 3)).toThrow(
    "profiles of micro-batches of 2 rows say nothing of 3, it takes two sizes",
  );
});

describe("rounds of probes", () => {
  /** Runs on a core that is taken away for the rest of every period once the quota is used. */
  function throttled(periodMs: number, quotaMs: number, work: readonly number[]) {
    let time = 0;
    let used = 0;
    const run = (ms: number) => async () => {
      const start = time;
      for (let left = ms; left > 1e-9; ) {
        const period = Math.floor(time / periodMs + 1e-9);
        const step = Math.min(left, quotaMs - used);
        if (step <= 1e-9) {
          time = (period + 1) * periodMs;
          used = 0;
          continue;
        }
        const free = Math.min(step, (period + 1) * periodMs - time);
        time += free;
        used += free;
        left -= free;
        if (Math.floor(time / periodMs + 1e-9) > period) used = 0;
      }
      return time - start;
    };
    return { probes: work.map((ms) => ({ run: run(ms) })), now: () => time };
  }

  test.each([
    [5, 1],
    [10, 3],
    [20, 10],
  ])("see through a quota: period %d ms, %d of it", async (periodMs, quotaMs) => {
    const work = [0.4, 1.3, 6];
    const { probes, now } = throttled(periodMs, quotaMs, work);
    const { ms } = await measureRounds(probes, 1000, now);
    const total = ms.reduce((a, b) => a + b, 0);
    expect(total / ((7.7 * periodMs) / quotaMs)).toBeCloseTo(1, 1);
  });

  test("are not moved by a single long disturbance, and stop when they are sure", async () => {
    let runs = 0;
    let time = 0;
    const run = async () => {
      const ms = ++runs === 20 ? 500 : 2;
      time += ms;
      return ms;
    };
    const { ms, scale } = await measureRounds([{ run }], 10_000, () => time);
    expect([ms, scale]).toEqual([[2], 1]);
    expect(time).toBeLessThan(1500);
  });
});

test("the most bytes of intermediate values alive at once; views and what is bound count nothing", () => {
  const b = new GraphBuilder("peak");
  const x = b.input("x", "f32", [4, 4]);
  const shape = b.constant("shape", Tensor.i64([1], [16]));
  const first = b.op("Relu", [x]);
  const flat = b.op("Reshape", [first, shape]);
  const second = b.op("Exp", [first]);
  b.op("Add", [b.op("Reshape", [second, shape]), flat], {}, "y");
  b.output("y");
  expect(peakBytes(b.build())).toBe(2 * 64);
});
