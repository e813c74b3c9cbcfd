/** What the stages told of a step, as a timeline: the same spans as a simulation's, in milliseconds of the step. */

import type { Operation } from "../../actors/scheduler/program.ts";
import type { Span } from "../../actors/scheduler/timeline.ts";
import type { OperationSpan, StepReport } from "../../actors/stage.ts";

/**
 * By worker, in the order they began. Clocks have to agree, as those of one machine do.
 * @param reports by worker.
 */
export function timelineOf(reports: readonly Pick<StepReport, "spans">[]): Span[] {
  const began = Math.min(...reports.flatMap(({ spans }) => spans.map(({ start }) => start)));
  return reports.flatMap(({ spans }, worker) =>
    spans
      .map((span) => ({
        worker,
        operation: operationOf(span),
        startMs: span.start - began,
        endMs: span.end - began,
      }))
      .sort((a, b) => a.startMs - b.startMs),
  );
}

/** Both runs of the optimiser, for the sums of squares and for the update, are the program's step. */
function operationOf({ op, microBatch, chunk }: OperationSpan): Operation {
  const at = chunk === undefined ? {} : { chunk };
  if (op === "update") return { op: "step" };
  return op === "reduce" ? { op, ...at } : { op, microBatch, ...at };
}

const KERNELS: readonly Operation["op"][] = [
  "forward",
  "backward",
  "forward-backward",
  "backward-input",
  "backward-weight",
  "update",
  "step",
];

/** Whether it is computed, rather than sent or waited for. */
export function isKernel({ op }: Operation): boolean {
  return KERNELS.includes(op);
}

/**
 * The part of the workers' time in which none of their kernels runs, waits inside of passes included.
 * @param reports by worker.
 */
export function idleShare(
  reports: readonly Pick<StepReport, "kernelMs" | "spans">[],
  stepMs: number,
): number {
  const busy = reports.map(({ spans }) => spans.reduce((sum, { kernelMs }) => sum + kernelMs, 0));
  return 1 - busy.reduce((a, b) => a + b, 0) / (stepMs * reports.length);
}
