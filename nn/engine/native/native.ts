/**
 * The native engine: the ONNX Runtime library that onnxruntime-node ships, called through the platform's foreign
 * function interface in a worker.
 *
 * Nothing is copied between the caller and the kernels. Needs Bun or Deno and a platform the package has a library for.
 */

import { DTYPES } from "../dtypes.ts";
import { type Engine, EngineError } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { connectWorker } from "../worker.ts";
import { openForeign } from "./ffi.ts";
import { openLibrary } from "./library.ts";

/** The runtime's version; null where this engine cannot work. */
export async function probeNative(): Promise<string | null> {
  const foreign = await openForeign();
  return foreign && (openLibrary(foreign)?.version ?? null);
}

export async function createNativeEngine(threads: number): Promise<Engine> {
  const foreign = await openForeign();
  if (!foreign) throw new EngineError("the native engine needs Bun or Deno; node-binding works in Node.js");
  const backend = connectWorker(new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
  const allocator = sharedAllocator(foreign.addressOf);
  return new HostEngine({ name: "native", backend, allocator, dtypes: DTYPES, threads });
}
