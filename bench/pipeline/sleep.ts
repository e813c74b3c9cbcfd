/**
 * An engine whose kernels compute nothing and take a time that is known: everything around them is the real thing, so
 * what a step takes beyond its schedule's own bound is what the runtime costs. Many such devices fit on one machine,
 * since a thread that sleeps needs no core.
 *
 * The kernels' thread blocks, as it does in a kernel. A graph is handed to it under a name that says its milliseconds.
 */

import type { Backend } from "../../nn/engine/backend.ts";
import { DTYPES } from "../../nn/engine/dtypes.ts";
import { type Engine, EngineError } from "../../nn/engine/engine.ts";
import { HostEngine } from "../../nn/engine/host.ts";
import { sharedAllocator } from "../../nn/engine/memory.ts";
import { connectWorker } from "../../nn/engine/worker.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { decodeModel } from "../../nn/onnx/proto.ts";

/** @param runMs how long a graph runs. */
export function createSleepingEngine(runMs: (graph: Graph) => number): Engine {
  const backend = connectWorker(
    new Worker(new URL("./sleep-worker.ts", import.meta.url), { type: "module" }),
  );
  const timed: Backend<Graph> = {
    ...backend,
    compile: (id, graph, options) => backend.compile(id, { ...graph, name: `${runMs(graph)}` }, options),
  };
  return new HostEngine({ name: "reference", backend: timed, allocator: sharedAllocator(), dtypes: DTYPES });
}

/** A thread's sleep may end this much late; the rest of the time is waited for awake. */
const SLACK_MS = 0.2;

/** In the worker. */
export class SleepingBackend implements Backend<Uint8Array> {
  private readonly graphs = new Map<number, number>();
  private readonly bindings = new Map<number, number>();
  private readonly never = new Int32Array(new SharedArrayBuffer(4));

  compile(executable: number, model: Uint8Array): void {
    this.graphs.set(executable, Number(decodeModel(model).name));
  }

  createBinding(binding: number, executable: number): void {
    this.bindings.set(binding, this.graphs.get(executable)!);
  }

  run(binding: number): number {
    const ms = this.bindings.get(binding);
    if (ms === undefined) throw new EngineError("run of a released binding");
    const start = performance.now();
    if (ms > SLACK_MS) Atomics.wait(this.never, 0, 0, ms - SLACK_MS);
    while (performance.now() < start + ms);
    return performance.now() - start;
  }

  profile(): [] {
    return [];
  }

  releaseBinding(binding: number): void {
    this.bindings.delete(binding);
  }

  releaseExecutable(executable: number): void {
    this.graphs.delete(executable);
  }

  close(): void {
    this.bindings.clear();
    this.graphs.clear();
  }
}
