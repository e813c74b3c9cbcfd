/**
 * onnxruntime-web on WebAssembly as a backend, in whichever thread it is opened.
 *
 * WebAssembly threads are off: they need a page with cross-origin isolation and start more workers of their own.
 */

import * as ort from "onnxruntime-web/wasm";
import { type OrtModule, SessionBackend } from "../session-backend.ts";

export function openWeb(): SessionBackend {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "fatal";
  return new SessionBackend(ort as unknown as OrtModule, () => performance.now());
}
