/**
 * The native engine: the ONNX Runtime library that onnxruntime-node ships, called through the platform's foreign
 * function interface in a worker.
 *
 * Nothing is copied between the caller and the kernels. Needs Bun or Deno and a platform the package has a library for.
 */

import { cpus } from "node:os";
import process from "node:process";
import { DTYPES } from "../dtypes.ts";
import { type Engine, EngineError } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { type Probe, processors } from "../probe.ts";
import { connectWorker } from "../worker.ts";
import { openForeign } from "./ffi.ts";
import { openLibrary } from "./library.ts";

/** Never throws. */
export async function probeNative(): Promise<Probe> {
  const foreign = await openForeign();
  if (!foreign) return { missing: "it needs Bun or Deno, whose programs can call a library directly" };
  const library = openLibrary(foreign);
  if (!library) {
    const { platform, arch } = process;
    return { missing: `onnxruntime-node has no library for ${platform}-${arch} that can be opened` };
  }
  return {
    version: library.version,
    dtypes: DTYPES,
    threads: processors(),
    device: processorName(),
    memory: "host",
  };
}

/** The processor as its maker calls it. */
export function processorName(): string {
  return cpus()[0]?.model.trim() || `${process.arch} processor`;
}

export async function createNativeEngine(threads: number): Promise<Engine> {
  const foreign = await openForeign();
  if (!foreign) throw new EngineError("the native engine needs Bun or Deno; node-binding works in Node.js");
  const backend = connectWorker(new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
  const allocator = sharedAllocator(foreign.addressOf);
  return new HostEngine({ name: "native", backend, allocator, dtypes: DTYPES, threads });
}
