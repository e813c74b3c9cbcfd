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
 * An operation with its times. A kernel's are those of its run, a send's and a reduce's those of it occupying links, a
 * receive's from when the worker was ready for it to the message's arrival (equal when it was there already).
 */
export interface Span<O = Operation> {
  /** Whose. */
  readonly worker: number;
  readonly operation: O;
  readonly startMs: number;
  readonly endMs: number;
}

export type AnySpan = Span<Operation | CollectiveOperation>;

/** What one row of the chart is called, by worker. */
export type WorkerNames = readonly string[];

/** Threads of a worker in the trace. What overlaps in one of them gets another of its name. */
const LANES = ["kernels", "collectives", "send activation", "send gradient", "reduce", "wait"] as const;
type Lane = (typeof LANES)[number];

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

/** One of several timelines in a trace. */
export interface Titled {
  /** In front of the names of its workers: "predicted". */
  readonly title: string;
  readonly spans: readonly AnySpan[];
}

/**
 * The Trace Event Format ("complete" events): a process per worker, a thread per lane. Waits of no length are left
 * out. Write it with `JSON.stringify`.
 */
export function chromeTrace(spans: readonly AnySpan[], names: WorkerNames = []): ChromeTrace {
  return {
    traceEvents: [...processes(spans, (worker) => ({ pid: worker, name: nameOf(names, worker) }))],
    displayTimeUnit: "ms",
  };
}

/** Several timelines of the same workers in one trace, below each other, all of them from zero on. */
export function compareTrace(timelines: readonly Titled[], names: WorkerNames = []): ChromeTrace {
  const workers = timelines.reduce(
    (most, { spans }) => spans.reduce((all, { worker }) => Math.max(all, worker + 1), most),
    0,
  );
  const traceEvents = timelines.flatMap(({ title, spans }, group) => {
    const origin = earliest(spans);
    const own = spans.map((span) => ({
      ...span,
      startMs: span.startMs - origin,
      endMs: span.endMs - origin,
    }));
    return [
      ...processes(own, (worker) => ({
        pid: group * workers + worker,
        name: `${title}: ${nameOf(names, worker)}`,
      })),
    ];
  });
  return { traceEvents, displayTimeUnit: "ms" };
}

function* processes(
  spans: readonly AnySpan[],
  processOf: (worker: number) => { readonly pid: number; readonly name: string },
): Generator<TraceEvent> {
  for (const [worker, own] of byWorker(spans)) {
    const { pid, name } = processOf(worker);
    yield { name: "process_name", ph: "M", pid, tid: 0, args: { name } };
    yield { name: "process_sort_index", ph: "M", pid, tid: 0, args: { sort_index: pid } };
    const threads: { readonly lane: Lane; freeMs: number }[] = LANES.map((lane) => ({
      lane,
      freeMs: Number.NEGATIVE_INFINITY,
    }));
    const events: TraceEvent[] = [];
    for (const span of own.toSorted((a, b) => a.startMs - b.startMs)) {
      const { operation, startMs, endMs } = span;
      const lane = laneOf(operation);
      if (lane === "wait" && endMs === startMs) continue;
      let tid = threads.findIndex((thread) => thread.lane === lane && thread.freeMs <= startMs);
      if (tid < 0) tid = threads.push({ lane, freeMs: 0 }) - 1;
      threads[tid]!.freeMs = endMs;
      events.push({
        ...{ name: titleOf(operation), cat: operation.op, ph: "X", pid, tid },
        ...{ ts: startMs * 1000, dur: (endMs - startMs) * 1000 },
        args: argsOf(operation),
      });
    }
    for (const [tid, { lane }] of threads.entries()) {
      yield { name: "thread_name", ph: "M", pid, tid, args: { name: lane } };
      yield { name: "thread_sort_index", ph: "M", pid, tid, args: { sort_index: LANES.indexOf(lane) } };
    }
    yield* events;
  }
}

function laneOf({ op }: AnySpan["operation"]): Lane {
  switch (op) {
    case "send-activation":
      return "send activation";
    case "send-gradient":
      return "send gradient";
    case "receive-activation":
    case "receive-gradient":
      return "wait";
    case "reduce":
      return "reduce";
    case "all-reduce":
    case "all-gather":
    case "reduce-scatter":
      return "collectives";
    default:
      return "kernels";
  }
}

function titleOf(operation: AnySpan["operation"]): string {
  return isCollective(operation) ? `${operation.op} in ${operation.microBatch}` : describe(operation);
}

function isCollective(operation: AnySpan["operation"]): operation is CollectiveOperation {
  return laneOf(operation) === "collectives";
}

function argsOf(operation: AnySpan["operation"]): Readonly<Record<string, unknown>> {
  if (operation.op === "step") return {};
  const { chunk } = operation;
  const microBatch = "microBatch" in operation ? { microBatch: operation.microBatch } : {};
  return { ...microBatch, ...(chunk === undefined ? {} : { chunk }) };
}

/** What the signs of `gantt` mean. */
export const GANTT_LEGEND =
  "0-9 forward, a-j backward, A-J both in one run, k-t weight gradient apart (micro-batch modulo 10), # update, " +
  "· idle; below, where there are any: ~ collective, = sum of gradients";

/**
 * A row for each worker, `width` columns over the whole time; a column shows the kernel running at its middle. Workers
 * that share work have a second row, of collectives and of sums of gradients. Signs are explained by `GANTT_LEGEND`.
 */
export function gantt(spans: readonly AnySpan[], names: WorkerNames = [], width = 80): string {
  const drawn = spans.filter(({ operation }) => SHOWN.has(laneOf(operation)));
  const startMs = earliest(drawn);
  const columnMs = (drawn.reduce((end, span) => Math.max(end, span.endMs), startMs) - startMs) / width;
  const workers = [...byWorker(drawn)].sort(([a], [b]) => a - b);
  const indent = Math.max(0, ...workers.map(([worker]) => nameOf(names, worker).length));
  const row = (own: readonly AnySpan[], title: string, nothing: string) => {
    const signs = new Array<string>(width).fill(nothing);
    for (const { operation, startMs: from, endMs: to } of own) {
      const first = Math.max(0, Math.ceil((from - startMs) / columnMs - 0.5));
      for (let column = first; column < width && startMs + (column + 0.5) * columnMs < to; column++) {
        signs[column] = sign(operation);
      }
    }
    return `${title.padEnd(indent)} ${signs.join("")}`.trimEnd();
  };
  return workers
    .flatMap(([worker, own]) => {
      const shared = own.filter(({ operation }) => laneOf(operation) !== "kernels");
      const kernels = own.filter(({ operation }) => laneOf(operation) === "kernels");
      return [row(kernels, nameOf(names, worker), "·"), ...(shared.length > 0 ? [row(shared, "", " ")] : [])];
    })
    .join("\n");
}

/** Lanes of the chart. */
const SHOWN: ReadonlySet<Lane> = new Set(["kernels", "collectives", "reduce"]);

function sign(operation: AnySpan["operation"]): string {
  if (isCollective(operation)) return "~";
  if (operation.op === "reduce") return "=";
  if (operation.op === "step" || operation.op === "update") return "#";
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

function byWorker(spans: readonly AnySpan[]): ReadonlyMap<number, readonly AnySpan[]> {
  return Map.groupBy(spans, ({ worker }) => worker);
}

function nameOf(names: WorkerNames, worker: number): string {
  return names[worker] ?? `worker ${worker}`;
}

function earliest(spans: readonly AnySpan[]): number {
  return spans.reduce((start, span) => Math.min(start, span.startMs), spans[0]?.startMs ?? 0);
}
