/** What the planner is told that a stage holds is what its executor takes in the engine. */

import { expect, test } from "bun:test";
import { memoryBytes, stageCost } from "../../../actors/scheduler/cost.ts";
import { segmentSizes } from "../../../actors/scheduler/parts.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { findSegments } from "../../../nn/segments.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { motley } from "../../nn/motley.ts";

const common = { learningRate: 0.01, warmup: 0, steps: 10, floor: 0.1, weightDecay: 0, clip: 1 };
const moments = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
const OPTIMIZERS: readonly (readonly [string, OptimizerConfig])[] = [
  ["plain sgd", { ...common, kind: "sgd", momentum: 0, nesterov: false }],
  ["momentum", { ...common, kind: "sgd", momentum: 0.9, nesterov: false }],
  ["adamw", { ...common, ...moments }],
  ["muon", { ...common, ...moments, kind: "muon", momentum: 0.95 }],
];

test.each(OPTIMIZERS)("%s", async (_, optimizer) => {
  // Tied parameters on one stage share memory, which the planner does not count on.
  const model = { ...motley(), ties: {} };
  const segments = findSegments(model).map((segment) => ({
    ...{ name: "", stashBytes: 0 },
    ...segmentSizes(model, segment, optimizer),
  }));
  const cost = stageCost(
    segments,
    { forwardMs: [], backwardMs: [], stepMs: [] },
    ...([0, segments.length, false] as const),
  );
  const engine = createReferenceEngine();
  const graphs = trainingGraphs(model.graph, model, {
    ...{ input: null, output: null, microBatches: 1, recompute: false },
  });
  const executor = await StageExecutor.create(engine, graphs, {
    ...{ slots: 0, optimizer, totalParameters: model.parameters.length },
  });
  // Sums of squares, twice; the step, the norm and the rate.
  const few = 2 * 4 * model.parameters.length + 8 + 4 + 4;
  expect(engine.usage().tensorBytes).toBe(memoryBytes(cost, 0) + few);
  executor.release();
  await engine.close();
});
