/** What workers tell of a step they have done, as a timeline: the same spans as a simulation's. */

import type { OperationSpan, StepReport } from "../stage/spec.ts";
import type { Operation } from "./program.ts";
import type { Span } from "./timeline.ts";

/**
 * In milliseconds since the first operation began, worker after worker in the order they began. Devices' clocks are taken
 * as one, which they are on one machine.
 * @param reports by worker.
 */
export function measuredSpans(reports: readonly Pick<StepReport, "spans">[]): readonly Span[] {
  let origin = Number.POSITIVE_INFINITY;
  for (const { spans } of reports) for (const { start } of spans) origin = Math.min(origin, start);
  return reports.flatMap(({ spans }, worker) =>
    spans
      .map((span) => ({
        worker,
        operation: operationOf(span),
        startMs: span.start - origin,
        endMs: span.end - origin,
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
