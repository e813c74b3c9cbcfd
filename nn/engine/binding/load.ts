/** The one place the package's binding is loaded, with its library told first to keep what it sees to itself. */

/** @throws whatever the package throws where its binding does not load. */
export async function loadBinding() {
  // Node.js and Deno hand this to C libraries; Bun needs to be asked through C.
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
  if ("bun" in process.versions) (await import("../native/environment.ts")).disableTelemetry();
  return import("onnxruntime-node");
}
