/**
 * The web engine: onnxruntime-web on WebAssembly, in browsers and wherever WebAssembly runs.
 *
 * Tensors live in the module's heap, which the caller and the worker share: nothing is copied on a run. Its
 * arithmetic differs from the native engine's in the last bits.
 */

import { DTYPES } from "../dtypes.ts";
import { type Engine, EngineError } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { type Probe, processors } from "../probe.ts";
import { connectWorker } from "../worker.ts";
import { startArenas } from "./arenas.ts";
import { isBundled } from "./assets.ts";
import { Heap } from "./heap.ts";

/** Never throws. */
export async function probeWeb(): Promise<Probe> {
  if (typeof WebAssembly === "undefined") return { missing: "there is no WebAssembly" };
  if (typeof SharedArrayBuffer === "undefined") {
    return { missing: "threads cannot share memory: serve the page with COOP and COEP headers" };
  }
  try {
    const { env } = await import("onnxruntime-web/wasm");
    return {
      ...{ version: env.versions.web ?? env.versions.common, dtypes: DTYPES, threads: processors() },
      ...{ device: "WebAssembly with vectors of 128 bits", memory: "heap" },
    };
  } catch (error) {
    return { missing: `onnxruntime-web does not load: ${(error as Error).message}` };
  }
}

/** `threads` are shared by all runs of the engine. @throws EngineError when the module does not start. */
export async function createWebEngine(threads: number): Promise<Engine> {
  const script = new URL(isBundled() ? "./engine-web.js" : "./worker.ts", import.meta.url);
  const worker = new Worker(script, { type: "module" });
  try {
    const heap = new Heap(await startArenas(worker, threads));
    return new HostEngine({
      name: "web",
      backend: connectWorker(worker),
      allocator: (dtype, shape) => heap.allocate(dtype, shape),
      dtypes: DTYPES,
      threads,
    });
  } catch (error) {
    worker.terminate();
    throw error instanceof EngineError ? error : new EngineError(String(error), { cause: error });
  }
}
