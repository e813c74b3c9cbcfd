/**
 * ONNX Runtime's own profile as times per operator. The runtime writes a trace file (Chrome's trace event format)
 * when profiling ends; it is read, added up and deleted. For the engines that have a file system.
 */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperatorTime } from "./engine.ts";

interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

/** Operator times of one executable, over as many of the runtime's profiles as were taken. */
export class OperatorTimes {
  private readonly times = new Map<string, { ms: number; calls: number }>();
  private folder = "";

  /** Prefix of the file that the next profile is to be written to, in a new temporary folder. */
  begin(): string {
    this.folder = mkdtempSync(join(tmpdir(), "troupe-profile-"));
    return join(this.folder, "run");
  }

  /** Adds what the runtime wrote since `begin` and removes it. */
  end(): void {
    for (const file of readdirSync(this.folder)) this.add(readFileSync(join(this.folder, file), "utf8"));
    this.cancel();
  }

  /** Removes what the runtime may have written since `begin`. */
  cancel(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Longest first. */
  sorted(): readonly OperatorTime[] {
    return [...this.times].map(([op, time]) => ({ op, ...time })).sort((a, b) => b.ms - a.ms);
  }

  private add(trace: string): void {
    for (const { cat, name, dur, args } of JSON.parse(trace) as TraceEvent[]) {
      if (cat !== "Node" || !name.endsWith("_kernel_time") || !args?.op_name) continue;
      const time = this.times.get(args.op_name) ?? { ms: 0, calls: 0 };
      this.times.set(args.op_name, { ms: time.ms + dur / 1000, calls: time.calls + 1 });
    }
  }
}
