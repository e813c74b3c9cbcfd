/**
 * A timeline, simulated or measured, for eyes: as a Chrome trace for Perfetto (https://ui.perfetto.dev) and as a
 * Gantt chart in text for terminals. Both take the same spans, so prediction and measurement look alike.
 */

import type { Collective } from "../../nn/shards/plan.ts";
import { describe, type Operation } from "./program.ts";

/** A collective inside a kernel of a stage whose workers share the work inside micro-batches. */
export interface CollectiveOperation {
  readonly op: Collective;
  readonly microBatch: number;
  /** As of the operation it is inside of. */
  readonly chunk?: number;
}

/**
 * An operation with its times. A kernel's are those of its run, a send's those of its message occupying the link,
 * a receive's from when the stage was ready for it to the message's arrival (equal when it was there already).
 */
export interface Span<O = Operation> {
  /** Whose. */
  readonly worker: number;
  readonly operation: O;
  readonly startMs: number;
  readonly endMs: number;
}

/** What one row of the chart is called, by worker. */
export type WorkerNames = readonly string[];

/** Threads of a worker in the trace: its kernels, and what it sends and waits for. */
const LANES = ["kernels", "send activation", "send gradient", "wait"] as const;

interface TraceEvent {
  readonly name: string;
  readonly ph: "X" | "M";
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  /** Microseconds, as the format wants them. */
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

export interface ChromeTrace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: "ms";
}

/**
 * The Trace Event Format ("complete" events): a process per worker, a thread per lane. Waits of no length are left
 * out. Write it with `JSON.stringify`.
 */
export function chromeTrace(spans: readonly Span[], names: WorkerNames = []): ChromeTrace {
  const traceEvents: TraceEvent[] = [];
  for (const worker of new Set(spans.map((span) => span.worker))) {
    const name = names[worker] ?? `worker ${worker}`;
    traceEvents.push({ name: "process_name", ph: "M", pid: worker, tid: 0, args: { name } });
    LANES.forEach((lane, tid) => {
      traceEvents.push({ name: "thread_name", ph: "M", pid: worker, tid, args: { name: lane } });
    });
  }
  for (const { worker, operation, startMs, endMs } of spans) {
    const tid = lane(operation);
    if (tid === LANES.indexOf("wait") && endMs === startMs) continue;
    traceEvents.push({
      name: describe(operation),
      cat: operation.op,
      ph: "X",
      pid: worker,
      tid,
      ts: startMs * 1000,
      dur: (endMs - startMs) * 1000,
      args: "microBatch" in operation ? { microBatch: operation.microBatch } : {},
    });
  }
  return { traceEvents, displayTimeUnit: "ms" };
}

function lane(operation: Operation): number {
  switch (operation.op) {
    case "send-activation":
      return LANES.indexOf("send activation");
    case "send-gradient":
      return LANES.indexOf("send gradient");
    case "receive-activation":
    case "receive-gradient":
      return LANES.indexOf("wait");
    default:
      return LANES.indexOf("kernels");
  }
}

/** What the signs of `gantt` mean. */
export const GANTT_LEGEND =
  "0-9 forward, a-j backward, A-J both in one run, k-t weight gradient apart (micro-batch modulo 10), # step, · idle";

/**
 * One row per worker, `width` columns over the whole time; a column shows the kernel running at its middle.
 * Signs are explained by `GANTT_LEGEND`.
 */
export function gantt(spans: readonly Span[], names: WorkerNames = [], width = 80): string {
  const kernels = spans.filter(({ operation }) => lane(operation) === LANES.indexOf("kernels"));
  const workers = [...new Set(kernels.map((span) => span.worker))].sort((a, b) => a - b);
  const startMs = Math.min(...kernels.map((span) => span.startMs));
  const columnMs = (Math.max(...kernels.map((span) => span.endMs)) - startMs) / width;
  const titles = workers.map((worker) => names[worker] ?? `worker ${worker}`);
  const indent = Math.max(0, ...titles.map((title) => title.length));
  const rows = workers.map((worker, index) => {
    const own = kernels.filter((span) => span.worker === worker);
    const signs = Array.from({ length: width }, (_, column) => {
      const at = startMs + (column + 0.5) * columnMs;
      const running = own.find((span) => span.startMs <= at && at < span.endMs);
      return running ? sign(running.operation) : "·";
    });
    return `${titles[index]!.padEnd(indent)} ${signs.join("")}`;
  });
  return rows.join("\n");
}

function sign(operation: Operation): string {
  if (!("microBatch" in operation) || operation.op === "update") return "#";
  const digit = operation.microBatch % 10;
  switch (operation.op) {
    case "forward":
      return `${digit}`;
    case "forward-backward":
      return "ABCDEFGHIJ"[digit]!;
    case "backward-weight":
      return "klmnopqrst"[digit]!;
    default:
      return "abcdefghij"[digit]!;
  }
}
