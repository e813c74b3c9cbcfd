/**
 * The web engine: onnxruntime-web on WebAssembly, in browsers and wherever WebAssembly runs.
 *
 * Inputs are copied into the module's heap and outputs out of it on each run. Its arithmetic differs from the
 * native engine's in the last bits.
 */

import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { connectWorker } from "../worker.ts";

/** The runtime's version; null where there is no WebAssembly. */
export async function probeWeb(): Promise<string | null> {
  if (typeof WebAssembly === "undefined" || typeof SharedArrayBuffer === "undefined") return null;
  try {
    const { env } = await import("onnxruntime-web/wasm");
    return env.versions.web ?? env.versions.common;
  } catch {
    return null;
  }
}

export function createWebEngine(): Engine {
  const backend = connectWorker(new URL("./worker.ts", import.meta.url));
  return new HostEngine("web", backend, sharedAllocator());
}
