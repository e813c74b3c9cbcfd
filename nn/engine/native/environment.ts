/**
 * The process's environment as C libraries see it. Platforms may keep `process.env` to themselves (Bun does), so a
 * variable that a library is to read is set through C.
 *
 * It is needed for one thing: ONNX Runtime's library reports usage to its maker over the network, and leaves log
 * files in the folder for temporary files, unless ORT_DISABLE_TELEMETRY is set before it is loaded. What people
 * train on their devices is nobody's business.
 */

import process from "node:process";
import type { Foreign } from "./ffi.ts";
import { cString } from "./pointers.ts";

const LIBRARY: Readonly<Record<string, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.B.dylib",
  win32: "kernel32.dll",
};

/** Call before ONNX Runtime is loaded, by whatever way. An existing setting is left as it is. */
export function disableTelemetry({ open, addressOf }: Foreign): void {
  const library = LIBRARY[process.platform];
  if (!library) return;
  const texts = [cString("ORT_DISABLE_TELEMETRY"), cString("1")];
  const [name, value] = texts.map(addressOf) as [number, number];
  if (process.platform === "win32") {
    open(library, {
      SetEnvironmentVariableA: { args: ["ptr", "ptr"], returns: "i32" },
    }).SetEnvironmentVariableA!(name, value);
  } else {
    open(library, { setenv: { args: ["ptr", "ptr", "i32"], returns: "i32" } }).setenv!(name, value, 0);
  }
  // Reachable until C has read them.
  texts.length = 0;
}
