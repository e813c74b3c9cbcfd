/**
 * How soon a loss is known at the coordinator: of a device whose process is killed, so that its links close, and of one
 * that is stopped, so that it falls silent behind links that stand.
 */

import { median } from "../statistics.ts";
import { openTestbed, type Testbed } from "../testbed/testbed.ts";
import type { Place } from "./cluster.ts";

export interface Detected {
  /** From SIGKILL, and from SIGSTOP, until the device was given up; median. */
  readonly closedMs: number;
  readonly silentMs: number;
  readonly patienceMs: number;
  /** Devices that were killed; as many were stopped. */
  readonly count: number;
}

/** Kills one half of a place's devices, and stops the other. */
export async function detection({ specs, kind }: Place): Promise<Detected> {
  const bed = await openTestbed(specs, { kind });
  const stopped: number[] = [];
  try {
    const count = Math.floor(specs.length / 2);
    const found: Record<"SIGKILL" | "SIGSTOP", number[]> = { SIGKILL: [], SIGSTOP: [] };
    for (let i = 0; i < 2 * count; i++) {
      const signal = i < count ? "SIGKILL" : "SIGSTOP";
      if (signal === "SIGSTOP") stopped.push(i);
      found[signal].push(await untilDown(bed, i, signal));
    }
    const { patienceMs } = bed.node.times;
    return { closedMs: median(found.SIGKILL), silentMs: median(found.SIGSTOP), patienceMs, count };
  } finally {
    // A process that is stopped does not end when it is asked to.
    for (const i of stopped) process.kill(bed.devices[i]!.pid, "SIGCONT");
    await bed.close();
  }
}

function untilDown(bed: Testbed, device: number, signal: "SIGKILL" | "SIGSTOP"): Promise<number> {
  const { ref, pid } = bed.devices[device]!;
  return new Promise((resolve) => {
    const began = performance.now();
    bed.node.monitor(ref, () => resolve(performance.now() - began));
    process.kill(pid, signal);
  });
}
