/** The digest of a plan that is made by hand: of the model it is for, cut into so many micro-batches. */

import { modelDigest } from "../actors/scheduler/planner/digest.ts";
import type { Trainable } from "../nn/model.ts";
import { findSegments } from "../nn/segments.ts";

export function digestFor(model: Trainable, microBatches: number): string {
  const segments = findSegments(model).map(({ index, parameterBytes, activationBytes }) => ({
    ...{ name: `segment ${index}`, parameterBytes, activationBytes, stashBytes: 0 },
  }));
  return modelDigest(segments, microBatches);
}
