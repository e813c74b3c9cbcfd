/**
 * The webgpu engine: onnxruntime-web's kernels for WebGPU, in browsers.
 *
 * Tensors whose place is the device stay in its buffers between runs; the caller has a copy that `write` and
 * `read` bring in line. The others are carried on each run. Operators that the device has no kernel for run on
 * WebAssembly, and what they need is carried there and back.
 */

import type { Graph } from "../../onnx/graph.ts";
import type { DeviceBackend } from "../backend.ts";
import { JAVASCRIPT_DTYPES } from "../dtypes.ts";
import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import { connectWorker } from "../worker.ts";
import { withoutDoubles } from "./doubles.ts";

/** What onnxruntime-web reads beside the bundled worker. A page serves it from the package's `dist` folder. */
export const WEBGPU_ASSETS = ["ort-wasm-simd-threaded.asyncify.wasm"] as const;

/** What is asked of a browser's `navigator.gpu`. */
interface Gpu {
  requestAdapter(): Promise<{ readonly info?: { readonly [name: string]: unknown } } | null>;
}

/** The adapter in words, or why there is none; never throws. */
export async function findAdapter(): Promise<{ readonly adapter: string } | { readonly missing: string }> {
  const { navigator } = globalThis as { navigator?: { gpu?: Gpu } };
  if (typeof process !== "undefined") return { missing: "it runs in browsers only" };
  if (!navigator?.gpu) return { missing: "this browser has no WebGPU, or the page is not served securely" };
  if (typeof SharedArrayBuffer === "undefined") {
    return { missing: "the page is not isolated: serve it with COOP and COEP headers" };
  }
  try {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) return { missing: "the browser found no graphics adapter" };
    const { vendor, architecture, description } = adapter.info ?? {};
    const words = [vendor, architecture, description].filter((word) => typeof word === "string" && word);
    return { adapter: words.join(" ") || "unnamed adapter" };
  } catch (error) {
    return { missing: `the browser's graphics adapter fails: ${(error as Error).message}` };
  }
}

/** The runtime's version; null where there is no adapter. */
export async function probeWebGpu(): Promise<string | null> {
  if ("missing" in (await findAdapter())) return null;
  try {
    const { env } = await import("onnxruntime-web/webgpu");
    return env.versions.web ?? env.versions.common;
  } catch {
    return null;
  }
}

/** The page serves the bundled worker as `engine-webgpu.js`. */
export function createWebGpuEngine(): Engine {
  const worker = new Worker(new URL("./engine-webgpu.js", import.meta.url), { type: "module" });
  const remote = connectWorker(worker);
  const device: DeviceBackend<Graph> = {
    ...remote,
    compile: (id, graph, options) => remote.compile(id, withoutDoubles(graph), options),
  };
  const dtypes = JAVASCRIPT_DTYPES.filter((dtype) => dtype !== "f64");
  return new HostEngine({ name: "webgpu", backend: device, device, allocator: sharedAllocator(), dtypes });
}
