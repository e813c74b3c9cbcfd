/**
 * The native engine: the ONNX Runtime library that onnxruntime-node ships, called through bun:ffi in a worker.
 *
 * Nothing is copied between the caller and the kernels. Needs Bun and a platform the package has a library for.
 */

import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { connectWorker } from "../worker.ts";
import { openLibrary } from "./library.ts";
import { addressOf } from "./pointers.ts";

/** The runtime's version; null where this engine cannot work. */
export function probeNative(): string | null {
  return openLibrary()?.version ?? null;
}

export function createNativeEngine(threads: number): Engine {
  const backend = connectWorker(new URL("./worker.ts", import.meta.url));
  return new HostEngine("native", backend, sharedAllocator(addressOf), threads);
}
