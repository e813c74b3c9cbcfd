/**
 * The process's environment as C libraries see it. Bun keeps `process.env` to itself, so a variable that a library
 * is to read has to be set through C.
 *
 * It is needed for one thing: ONNX Runtime's library reports usage to its maker over the network, and leaves log
 * files in the folder for temporary files, unless ORT_DISABLE_TELEMETRY is set before it is loaded. What people
 * train on their devices is nobody's business.
 */

import { dlopen } from "bun:ffi";
import { cString } from "./pointers.ts";

const LIBRARY: Readonly<Record<string, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.B.dylib",
  win32: "kernel32.dll",
};

/** Call before ONNX Runtime is loaded, by whatever way. An existing setting is left as it is. */
export function disableTelemetry(): void {
  const library = LIBRARY[process.platform];
  if (!library) return;
  const [name, value] = [cString("ORT_DISABLE_TELEMETRY"), cString("1")];
  if (process.platform === "win32") {
    const { SetEnvironmentVariableA } = dlopen(library, {
      SetEnvironmentVariableA: { args: ["ptr", "ptr"], returns: "i32" },
    }).symbols;
    SetEnvironmentVariableA(name, value);
  } else {
    const { setenv } = dlopen(library, { setenv: { args: ["ptr", "ptr", "i32"], returns: "i32" } }).symbols;
    setenv(name, value, 0);
  }
}
