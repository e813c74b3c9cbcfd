/**
 * The node-binding engine: onnxruntime-node as it is meant to be used, for runtimes without bun:ffi. The same
 * kernels and the same bits as the native engine, and one copy of every output on each run.
 */

import { JAVASCRIPT_DTYPES } from "../dtypes.ts";
import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { processorName } from "../native/native.ts";
import { type Probe, processors } from "../probe.ts";
import { connectWorker } from "../worker.ts";
import { loadBinding } from "./load.ts";

/** The package's binding refuses f16 where the platform has Float16Array (1.30: "not enough space"). */
const BINDING_DTYPES = JAVASCRIPT_DTYPES.filter((dtype) => dtype !== "f16");

/** Never throws. */
export async function probeBinding(): Promise<Probe> {
  try {
    const { env } = await loadBinding();
    return {
      ...{ version: env.versions.node ?? env.versions.common, dtypes: BINDING_DTYPES },
      ...{ threads: processors(), device: processorName(), memory: "host" },
    };
  } catch (error) {
    return { missing: `onnxruntime-node does not load: ${firstLine(error)}` };
  }
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0]!;
}

export function createBindingEngine(threads: number): Engine {
  const backend = connectWorker(new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
  const allocator = sharedAllocator();
  return new HostEngine({ name: "node-binding", backend, allocator, dtypes: BINDING_DTYPES, threads });
}
