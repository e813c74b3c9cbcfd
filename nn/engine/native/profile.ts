/**
 * ONNX Runtime's own profile as times per operator. The runtime writes a trace file (Chrome's trace event format)
 * when profiling ends; it is read, added up and deleted.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { OperatorTime } from "../engine.ts";
import { cString } from "./pointers.ts";

/** A prefix for the runtime's file name, in a new temporary folder. */
export function profilePrefix(): Uint8Array {
  const prefix = join(mkdtempSync(join(tmpdir(), "troupe-profile-")), "run");
  return cString(prefix, process.platform === "win32" ? "utf16le" : "utf8");
}

interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

export class OperatorTimes {
  private readonly times = new Map<string, { ms: number; calls: number }>();

  /** Adds the kernels of a finished profile and removes its temporary folder. */
  add(path: string): void {
    const events: TraceEvent[] = JSON.parse(readFileSync(path, "utf8"));
    rmSync(dirname(path), { recursive: true, force: true });
    for (const { cat, name, dur, args } of events) {
      if (cat !== "Node" || !name.endsWith("_kernel_time") || !args?.op_name) continue;
      const time = this.times.get(args.op_name) ?? { ms: 0, calls: 0 };
      this.times.set(args.op_name, { ms: time.ms + dur / 1000, calls: time.calls + 1 });
    }
  }

  /** Longest first. */
  sorted(): readonly OperatorTime[] {
    return [...this.times].map(([op, time]) => ({ op, ...time })).sort((a, b) => b.ms - a.ms);
  }
}
