/** The pipeline bench's stand-in: kernels that take what they are said to, and bounds that are the schedules' own. */

import { expect, test } from "bun:test";
import { PipelineCluster } from "../../../bench/pipeline/cluster.ts";
import { chainModel } from "../../../bench/pipeline/model.ts";
import { boundOf, dealtPlan } from "../../../bench/pipeline/plan.ts";
import { boundOfOrder } from "../../../bench/pipeline/rival.ts";
import { runMs } from "../../../bench/pipeline/times.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { trainingGraphs } from "../../../nn/training.ts";

const TIMES = { forwardMs: 7, backwardInputMs: 2, backwardWeightMs: 3 };

test("every chunk costs the same, wherever it is in the model and however its passes are cut", () => {
  const chunks = 3;
  const model = chainModel(chunks);
  const segments = findSegments(model);
  expect(segments).toHaveLength(chunks);
  const msOf = (graph: Graph | null) =>
    graph === null
      ? 0
      : runMs(
          graph.outputs.map(({ name }) => name),
          chunks,
          TIMES,
        );
  for (const { index, input, output, inputTrained } of segments) {
    for (const split of [false, true]) {
      const graphs = trainingGraphs(cutGraph(model.graph, segments, index, index + 1), model, {
        ...{ input, output, inputGradient: inputTrained, microBatches: 2, recompute: false, split },
      });
      const { forward, backward, joint, backwardInput, backwardWeights } = graphs;
      const runs = [forward, backward, joint, backwardInput, backwardWeights].map(msOf);
      expect(runs.reduce((a, b) => a + b)).toBe(7 + 2 + 3);
      if (split) expect([msOf(backwardInput), msOf(backwardWeights)]).toEqual(index === 0 ? [0, 5] : [2, 3]);
    }
  }
});

test("bounds: (M + S - 1)(F + B) for gpipe and both kinds of 1f1b", () => {
  for (const schedule of ["gpipe", "1f1b", "eager-1f1b"] as const) {
    const plan = dealtPlan({ stages: 4, microBatches: 16, schedule, chunks: 1 });
    expect(boundOf(plan, TIMES).makespanMs).toBeCloseTo((16 + 3) * 12);
  }
});

test("the bound of an order of actions: what PyTorch says it does, two ranks by hand", () => {
  const order = [
    ["0F0", "0F1", "0B0", "0B1"],
    ["1F0", "1B0", "1F1", "1B1", "1REDUCE_GRAD"],
  ];
  // F 0, then both of the last stage, each in a row, then B 1 of the first.
  expect(boundOfOrder(order, 2, TIMES)).toBe(7 + 12 + 12 + 5);
  const split = [
    ["0F0", "0I0", "0W0"],
    ["1F0", "1I0", "1W0"],
  ];
  // Nobody wants the gradient of the first chunk's input: all of its backward pass is in W.
  expect(boundOfOrder(split, 2, TIMES)).toBe(7 + 7 + 2 + 5);
  expect(() => boundOfOrder([["0F0"], ["1B0", "1F0"]], 2, TIMES)).toThrow("rank 1 waits for ever at 1B0");
});

test("two processes whose kernels sleep, two pipelines one after the other: real stages, as many kernel milliseconds as were asked for", async () => {
  const pipeline = { stages: 2, microBatches: 4, schedule: "1f1b", chunks: 1 } as const;
  const times = { forwardMs: 0.5, backwardInputMs: 0.25, backwardWeightMs: 0.25 };
  const longer = { ...times, forwardMs: 1 };
  const pipelines = [times, longer].map((own) => ({ ...pipeline, times: own }));
  const cluster = await PipelineCluster.open(2, pipelines);
  try {
    for (const own of pipelines) {
      const running = await cluster.start(own);
      const [step] = await running.steps(1);
      await running.close();
      expect(step!.reports).toHaveLength(2);
      const wanted = 4 * (own.times.forwardMs + 0.5);
      for (const { kernelMs } of step!.reports) expect(kernelMs).toBeGreaterThanOrEqual(wanted);
      expect(step!.ms).toBeGreaterThanOrEqual(boundOf(dealtPlan(own), own.times).makespanMs);
    }
  } finally {
    await cluster.close();
  }
}, 120_000);
