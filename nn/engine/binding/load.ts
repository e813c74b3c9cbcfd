/** The one place the package's binding is loaded, with its library told first to keep what it sees to itself. */

import process from "node:process";
import { disableTelemetry } from "../native/environment.ts";
import { openForeign } from "../native/ffi.ts";

/** @throws whatever the package throws where its binding does not load. */
export async function loadBinding() {
  // Node.js hands this to C libraries; Bun and Deno are asked through C.
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
  const foreign = await openForeign();
  if (foreign) disableTelemetry(foreign);
  return import("onnxruntime-node");
}
