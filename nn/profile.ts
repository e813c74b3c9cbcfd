/**
 * How fast an engine runs each segment of a model: measured, on this device, now.
 *
 * Segments of the same shape (the layers of a transformer) cost the same, so one of each kind is measured. Every
 * figure is the fastest of a few runs: on a machine that others use too, the fastest is the least disturbed.
 */

import { byteLength } from "../protocols/tensor.ts";
import type { Engine } from "./engine/engine.ts";
import { StageExecutor } from "./executor.ts";
import type { Trainable } from "./model.ts";
import type { Graph } from "./onnx/graph.ts";
import { inferShapes } from "./onnx/shapes.ts";
import type { OptimizerConfig } from "./optim/optimizer.ts";
import { cutGraph, findSegments, type Segment } from "./segments.ts";
import { type StageGraphs, trainingGraphs } from "./training.ts";

/** Times in milliseconds; bytes per micro-batch. */
export interface SegmentProfile {
  /** Kernels only, as `backwardMs`. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** The optimiser's update, once per step. */
  readonly stepMs: number;
  /** What forward keeps for backward, the segment's input included. */
  readonly stashBytes: number;
}

export interface ProfileOptions {
  readonly optimizer: OptimizerConfig;
  readonly microBatches: number;
  /** Runs to take the fastest of, after one that warms up. */
  readonly repeats: number;
}

/** Profiles every segment of `model`, in order. */
export async function profileSegments(
  engine: Engine,
  model: Trainable,
  options: ProfileOptions,
  now: () => number,
): Promise<SegmentProfile[]> {
  const segments = findSegments(model);
  const trained = new Set(model.parameters);
  const known = new Map<string, SegmentProfile>();
  const profiles: SegmentProfile[] = [];
  for (const segment of segments) {
    const graph = cutGraph(model.graph, segments, segment.index, segment.index + 1);
    const kind = JSON.stringify([
      segment.flops,
      segment.activationBytes,
      graph.nodes.map(({ op }) => op),
      graph.inputs.map(({ name, shape }) => [shape, trained.has(name)]),
      segment.inputTrained,
    ]);
    let profile = known.get(kind);
    if (!profile) {
      profile = await measure(engine, graph, segment, model, options, now);
      known.set(kind, profile);
    }
    profiles.push(profile);
  }
  return profiles;
}

async function measure(
  engine: Engine,
  graph: Graph,
  segment: Segment,
  model: Trainable,
  options: ProfileOptions,
  now: () => number,
): Promise<SegmentProfile> {
  const { input, output } = segment;
  const graphs = trainingGraphs(graph, model, {
    input,
    output,
    inputGradient: segment.inputTrained,
    microBatches: options.microBatches,
    recompute: false,
  });
  const executor = await StageExecutor.create(engine, graphs, {
    slots: 1,
    optimizer: options.optimizer,
    totalParameters: model.parameters.length,
  });
  try {
    const fastest = async (run: () => Promise<number>) => {
      await run();
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < options.repeats; i++) best = Math.min(best, await run());
      return best;
    };
    const stepMs = await fastest(async () => {
      const start = now();
      const sums = new Float32Array(model.parameters.length);
      sums.set(await executor.squareSums());
      await executor.update(0, sums);
      return now() - start;
    });
    const stashBytes = keptBytes(graph, graphs, input);
    if (graphs.joint) {
      // One run does both; backward is twice the products of forward.
      const both = await fastest(() => executor.joint(0));
      return { forwardMs: both / 3, backwardMs: (2 * both) / 3, stepMs, stashBytes };
    }
    const forwardMs = await fastest(() => executor.forward(0));
    const backwardMs = graphs.backward ? await fastest(() => executor.backward(0)) : 0;
    return { forwardMs, backwardMs, stepMs, stashBytes };
  } finally {
    executor.release();
  }
}

/** The input and the stash; for a joint run, whose stash never shows, all that its forward pass computes. */
function keptBytes(graph: Graph, graphs: StageGraphs, input: string | null): number {
  const types = inferShapes(graph);
  const size = (name: string) => {
    const { dtype, shape } = types.get(name)!;
    return byteLength(dtype, shape);
  };
  const kept = graphs.joint
    ? graph.nodes.flatMap(({ outputs }) => outputs.filter((name) => name !== "")).map(size)
    : graphs.stash.map(({ dtype, shape }) => byteLength(dtype, shape));
  return kept.reduce((sum, bytes) => sum + bytes, input === null ? 0 : size(input));
}
