/** The script of the webgpu engine's worker thread; a page serves its bundle as `engine-webgpu.js`. */

import * as ort from "onnxruntime-web/webgpu";
import { serveBackend } from "../worker.ts";
import { WebGpuBackend } from "./backend.ts";
import { openDevice } from "./device.ts";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.asyncify.wasm", import.meta.url).href };
ort.env.logLevel = "fatal";
serveBackend(async () => new WebGpuBackend(ort, await openDevice(), () => performance.now()));
