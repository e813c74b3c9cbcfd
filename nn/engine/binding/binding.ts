/**
 * The node-binding engine: onnxruntime-node as it is meant to be used, for runtimes without bun:ffi. The same
 * kernels and the same bits as the native engine, and one copy of every output on each run.
 */

import { JAVASCRIPT_DTYPES } from "../dtypes.ts";
import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { connectWorker } from "../worker.ts";
import { loadBinding } from "./load.ts";

/** The runtime's version; null where the package's binding does not load. */
export async function probeBinding(): Promise<string | null> {
  try {
    const { env } = await loadBinding();
    return env.versions.node ?? null;
  } catch {
    return null;
  }
}

export function createBindingEngine(threads: number): Engine {
  const backend = connectWorker(new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
  const allocator = sharedAllocator();
  return new HostEngine({ name: "node-binding", backend, allocator, dtypes: JAVASCRIPT_DTYPES, threads });
}
