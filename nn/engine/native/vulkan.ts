/**
 * Why there is no WebGPU outside of browsers. onnxruntime-node ships an implementation, which needs a Vulkan driver
 * on Linux; and its interface copies every tensor in and out on each run, which a training step cannot afford.
 * Asked without the runtime, whose own attempt writes to the terminal.
 */

import process from "node:process";
import type { Missing } from "../probe.ts";
import { openForeign } from "./ffi.ts";

const LOADER = "libvulkan.so.1";

/** Never throws. */
export async function probeNativeWebGpu(): Promise<Missing> {
  const foreign = process.platform === "linux" ? await openForeign() : null;
  try {
    foreign?.open(LOADER, { vkEnumerateInstanceVersion: { args: ["ptr"], returns: "i32" } });
  } catch {
    return { missing: `it runs in browsers; here it would need a Vulkan driver, and there is no ${LOADER}` };
  }
  return { missing: "it runs in browsers; onnxruntime-node's copies every tensor on each run" };
}
