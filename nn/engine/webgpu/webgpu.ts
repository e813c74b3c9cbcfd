/**
 * The webgpu engine: onnxruntime-web's kernels for WebGPU, in browsers.
 *
 * Tensors whose place is the device stay in its buffers between runs; the caller has a copy that `write` and
 * `read` bring in line. The others are carried on each run. Operators that the device has no kernel for run on
 * WebAssembly, and what they need is carried there and back.
 */

import type { DType } from "../../../protocols/tensor.ts";
import type { Graph } from "../../onnx/graph.ts";
import type { DeviceBackend } from "../backend.ts";
import { JAVASCRIPT_DTYPES } from "../dtypes.ts";
import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { sharedAllocator } from "../memory.ts";
import type { Missing, Probe } from "../probe.ts";
import { connectWorker } from "../worker.ts";
import { withoutDoubles } from "./doubles.ts";

/** What onnxruntime-web reads beside the bundled worker. A page serves it from the package's `dist` folder. */
export const WEBGPU_ASSETS = ["ort-wasm-simd-threaded.asyncify.wasm"] as const;

const WEBGPU_DTYPES = JAVASCRIPT_DTYPES.filter((dtype) => dtype !== "f64");
/** Those that a buffer of the device may hold. */
const ON_DEVICE: readonly DType[] = ["f32", "f16", "i32", "i64", "u8", "bool"];

/** What is asked of a browser's `navigator.gpu`. */
interface Gpu {
  requestAdapter(): Promise<{ readonly info?: { readonly [name: string]: unknown } } | null>;
}

/** The adapter in words, or why there is none; never throws. */
async function findAdapter(): Promise<{ readonly adapter: string } | Missing> {
  const { navigator } = globalThis as { navigator?: { gpu?: Gpu } };
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

/** Never throws. */
export async function probeWebGpu(): Promise<Probe> {
  const found = await findAdapter();
  if ("missing" in found) return found;
  try {
    const { env } = await import("onnxruntime-web/wasm");
    return {
      ...{ version: env.versions.web ?? env.versions.common, dtypes: WEBGPU_DTYPES, threads: 1 },
      ...{ device: found.adapter, memory: "device" },
    };
  } catch (error) {
    return { missing: `onnxruntime-web does not load: ${(error as Error).message}` };
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
  const parts = { backend: device, device, onDevice: ON_DEVICE, allocator: sharedAllocator() };
  return new HostEngine({ name: "webgpu", dtypes: WEBGPU_DTYPES, ...parts });
}
