/** The update of a stage's parameters, behind the commit gate. */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock } from "../../runtime/index.ts";
import type { Chunk } from "./chunk.ts";
import { meet } from "./meeting.ts";
import type { Session } from "./session.ts";
import { type CommitReport, type OperationSpan, updateSpan } from "./spec.ts";

export interface Committing {
  readonly chunks: readonly Chunk[];
  readonly session: Session;
  readonly clock: Clock;
  readonly step: number;
  /** Of the whole model. */
  readonly squareSums: Tensor;
  /** What part of the micro-batches is the stage's own, where members who train on their own meet; else null. */
  readonly share: number | null;
}

/** Updates what the chunks hold; where each micro-batch has been an update, nothing is left to do. */
export async function commitChunks(committing: Committing): Promise<CommitReport> {
  const { chunks, session, clock, step, squareSums, share } = committing;
  const start = clock.now();
  const spans: OperationSpan[] = [];
  const results = session.worker.updated.splice(0);
  const gradNorm = Math.hypot(...results.map((result) => result.gradNorm));
  if (results.length > 0) results[0] = { ...results[0]!, gradNorm };
  else {
    for (const { executor } of chunks) results.push(await executor.update(step, squareSums.f32()));
    spans.push(updateSpan(start, clock.now()));
  }
  if (share !== null) {
    const met = clock.now();
    for (const chunk of chunks) await meet(chunk, step, share, session.collectives);
    spans.push({ op: "reduce", microBatch: 0, start: met, end: clock.now(), kernelMs: 0 });
  }
  return { ...results[0]!, spans };
}
