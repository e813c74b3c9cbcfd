/**
 * A model as the planner wants it where no device is there to measure it: the sizes of its segments, counted from their
 * graphs, and the operations from which `clusterProfile` makes times. Sizes are those that a profile would tell.
 */

import { peakBytes } from "../../nn/memory/peak.ts";
import type { Model } from "../../nn/model.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import { cutGraph, type Segment } from "../../nn/segments.ts";
import type { ShardKind } from "../../nn/shards/plan.ts";
import { keptBytes, trainingGraphs } from "../../nn/training.ts";
import type { SegmentWork } from "./cluster-profile.ts";
import type { SegmentCost } from "./cost.ts";
import { segmentSizes } from "./parts.ts";
import { shardedSegments } from "./sharding.ts";

export type ImaginedSegment = SegmentCost & SegmentWork;

export interface ImagineOptions {
  readonly optimizer: OptimizerConfig;
  /** Micro-batches in a step; the model's shapes are those of one. */
  readonly microBatches: number;
  /** Ways to share work inside a micro-batch that are looked at. */
  readonly sharings: readonly ShardKind[];
}

/** @throws GraphError where the model cannot be differentiated. */
export function imaginedSegments(
  model: Model,
  segments: readonly Segment[],
  { optimizer, microBatches, sharings }: ImagineOptions,
): ImaginedSegment[] {
  const passes = segments.map((segment) => passSizes(model, segments, segment, microBatches));
  const stashes = passes.map(({ stashBytes }) => stashBytes);
  const sharded = shardedSegments(model, segments, stashes, sharings);
  return segments.map((segment, i) => ({
    name: `segment ${i}`,
    trained: segments[i + 1]?.inputTrained ?? true,
    ...segmentSizes(model, segment, optimizer),
    ...passes[i]!,
    flops: segment.flops,
    sharded: sharded[i]!,
  }));
}

/** What forward and backward pass keep and need, as runs of their own also where the segment ends the model. */
function passSizes(
  model: Model,
  segments: readonly Segment[],
  { index, input, output, inputTrained }: Segment,
  microBatches: number,
): Required<Pick<SegmentCost, "stashBytes" | "workingBytes">> {
  const graphs = trainingGraphs(cutGraph(model.graph, segments, index, index + 1), model, {
    ...{ input, output, inputGradient: inputTrained, microBatches },
    ...{ recompute: false, split: output === null },
  });
  const runs = [graphs.forward, graphs.backward, graphs.backwardInput, graphs.backwardWeights];
  return {
    stashBytes: keptBytes(graphs),
    workingBytes: Math.max(0, ...runs.map((graph) => (graph ? peakBytes(graph) : 0))),
  };
}
