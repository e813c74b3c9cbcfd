/**
 * Finds the ONNX Runtime library that the onnxruntime-node package ships and opens its C API.
 *
 * `OrtGetApiBase` gives a table of function pointers. The table only ever grows at its end, so an index, once
 * published, holds for all later versions: https://onnxruntime.ai/docs/api/c/struct_ort_api.html and
 * `onnxruntime_c_api.h`. The indices below are those of the functions' order in that header.
 */

import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { EngineError } from "../engine.ts";
import { disableTelemetry } from "./environment.ts";
import type { Foreign, ForeignType, Pointer } from "./ffi.ts";

/** The version of the table that is asked for; every function used is older than it. */
const API_VERSION = 20;

const FILE: Readonly<Record<string, string>> = {
  linux: "libonnxruntime.so.1",
  darwin: "libonnxruntime.1.dylib",
  win32: "onnxruntime.dll",
};

interface TableEntry {
  readonly index: number;
  readonly args: readonly ForeignType[];
  readonly returns: ForeignType;
}

/** Index in the table, arguments, result. A status is a pointer: null is success. */
const FUNCTIONS = {
  GetErrorMessage: { index: 2, args: ["ptr"], returns: "cstring" },
  CreateEnv: { index: 3, args: ["i32", "ptr", "ptr"], returns: "ptr" },
  DisableTelemetryEvents: { index: 6, args: ["ptr"], returns: "ptr" },
  CreateSessionFromArray: { index: 8, args: ["ptr", "ptr", "u64", "ptr", "ptr"], returns: "ptr" },
  Run: { index: 9, args: ["ptr", "ptr", "ptr", "ptr", "u64", "ptr", "u64", "ptr"], returns: "ptr" },
  CreateSessionOptions: { index: 10, args: ["ptr"], returns: "ptr" },
  EnableProfiling: { index: 14, args: ["ptr", "ptr"], returns: "ptr" },
  DisableMemPattern: { index: 17, args: ["ptr"], returns: "ptr" },
  SetSessionLogSeverityLevel: { index: 22, args: ["ptr", "i32"], returns: "ptr" },
  SetSessionGraphOptimizationLevel: { index: 23, args: ["ptr", "i32"], returns: "ptr" },
  SetIntraOpNumThreads: { index: 24, args: ["ptr", "i32"], returns: "ptr" },
  SetInterOpNumThreads: { index: 25, args: ["ptr", "i32"], returns: "ptr" },
  CreateTensorWithDataAsOrtValue: {
    index: 49,
    args: ["ptr", "ptr", "u64", "ptr", "u64", "i32", "ptr"],
    returns: "ptr",
  },
  CreateCpuMemoryInfo: { index: 69, args: ["i32", "i32", "ptr"], returns: "ptr" },
  AllocatorFree: { index: 76, args: ["ptr", "ptr"], returns: "ptr" },
  GetAllocatorWithDefaultOptions: { index: 78, args: ["ptr"], returns: "ptr" },
  ReleaseEnv: { index: 92, args: ["ptr"], returns: "void" },
  ReleaseStatus: { index: 93, args: ["ptr"], returns: "void" },
  ReleaseMemoryInfo: { index: 94, args: ["ptr"], returns: "void" },
  ReleaseSession: { index: 95, args: ["ptr"], returns: "void" },
  ReleaseValue: { index: 96, args: ["ptr"], returns: "void" },
  ReleaseSessionOptions: { index: 100, args: ["ptr"], returns: "void" },
  SessionEndProfiling: { index: 110, args: ["ptr", "ptr", "ptr"], returns: "ptr" },
  AddSessionConfigEntry: { index: 130, args: ["ptr", "ptr", "ptr"], returns: "ptr" },
} as const satisfies Readonly<Record<string, TableEntry>>;

/** 0 is success. */
type Status = Pointer;

/** The functions by their names in the header. */
export type OrtApi = {
  readonly [Name in keyof typeof FUNCTIONS]: (
    ...args: number[]
  ) => (typeof FUNCTIONS)[Name]["returns"] extends "ptr"
    ? Status
    : (typeof FUNCTIONS)[Name]["returns"] extends "cstring"
      ? string
      : void;
};

export interface OrtLibrary {
  readonly path: string;
  readonly version: string;
  readonly api: OrtApi;
}

/** Where the package keeps the library for this platform; null where it ships none. */
export function libraryPath(): string | null {
  const file = FILE[process.platform];
  if (!file) return null;
  try {
    const root = new URL(".", import.meta.resolve("onnxruntime-node/package.json"));
    const path = fileURLToPath(new URL(`bin/napi-v6/${process.platform}/${process.arch}/${file}`, root));
    return existsSync(path) ? path : null;
  } catch {
    return null;
  }
}

/** Opens the library; null where there is none or it is too old. The library stays loaded with the process. */
export function openLibrary(foreign: Foreign): OrtLibrary | null {
  const path = libraryPath();
  if (path === null) return null;
  try {
    disableTelemetry(foreign);
    const { OrtGetApiBase } = foreign.open(path, { OrtGetApiBase: { args: [], returns: "ptr" } });
    const base = OrtGetApiBase!() as Pointer;
    if (base === 0) return null;
    // struct OrtApiBase { const OrtApi* GetApi(uint32_t); const char* GetVersionString(); }
    const root = foreign.link({
      GetApi: { at: foreign.readPointer(base), args: ["u32"], returns: "ptr" },
      GetVersionString: { at: foreign.readPointer(base + 8), args: [], returns: "cstring" },
    });
    const table = root.GetApi!(API_VERSION) as Pointer;
    if (table === 0) return null;
    const entries = Object.entries(FUNCTIONS).map(([name, { index, args, returns }]) => [
      name,
      { at: foreign.readPointer(table + index * 8), args, returns },
    ]);
    const api = foreign.link(Object.fromEntries(entries)) as unknown as OrtApi;
    return { path, version: String(root.GetVersionString!()), api };
  } catch {
    return null;
  }
}

/** Takes a status: success passes, a failure is released and thrown with the runtime's message. */
export function check(api: OrtApi, status: Status): void {
  if (status === 0) return;
  const message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw new EngineError(message);
}
