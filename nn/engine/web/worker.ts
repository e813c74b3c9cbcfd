/**
 * The script of the web engine's worker thread.
 *
 * WebAssembly threads are off: they need a page with cross-origin isolation and start more workers of their own.
 */

import * as ort from "onnxruntime-web/wasm";
import { type OrtModule, SessionBackend } from "../session-backend.ts";
import { serveBackend } from "../worker.ts";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";
serveBackend(() => new SessionBackend(ort as unknown as OrtModule, () => performance.now(), true));
