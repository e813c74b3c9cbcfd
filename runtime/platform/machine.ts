/** What this process runs on, and what it has used of it. */

import { readFileSync } from "node:fs";
import { availableParallelism, hostname, totalmem } from "node:os";

export interface Machine {
  readonly host: string;
  /** Processor cores this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly pid: number;
  /** The most memory the process has had resident. */
  readonly peakBytes: number;
}

export function machine(): Machine {
  return {
    host: hostname(),
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    pid: process.pid,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** What kind of computer it is, as far as the system says. */
export interface MachineKind {
  /** What its maker calls it; null where the system does not say. */
  readonly model: string | null;
  /** Whether it is made to be carried. */
  readonly portable: boolean;
  /** As Node.js names it: linux, darwin, win32, android. */
  readonly system: string;
}

/** Of Linux: a board's device tree, or a computer's firmware. Of other systems, what they run on mostly. */
export function machineKind(): MachineKind {
  const { platform } = process;
  const model = firstText(["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]);
  const chassis = Number(firstText(["/sys/class/dmi/id/chassis_type"]) ?? Number.NaN);
  const portable = PORTABLE.includes(chassis) || platform === "darwin" || platform === "android";
  return { model, portable, system: platform };
}

/** Portable, laptop, notebook, hand held, sub notebook, tablet, convertible, detachable (SMBIOS 3.7, table 17). */
const PORTABLE: readonly number[] = [8, 9, 10, 11, 14, 30, 31, 32];

function firstText(paths: readonly string[]): string | null {
  for (const path of paths) {
    try {
      // A device tree's text ends with a zero.
      const text = readFileSync(path, "utf8").replaceAll("\0", "").trim();
      if (text !== "") return text;
    } catch {
      // Not that kind of machine.
    }
  }
  return null;
}

/**
 * The same for all processes of this machine until it is started anew, and no other machine's: for a node's
 * `machine`, so that nodes beside each other use shared memory. Containers of one machine have the same, though
 * they may share neither memory nor loopback; routes that turn out not to work are passed over.
 */
export function machineId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    // Not Linux. Two machines of one name in one cluster try in vain to reach each other through shared memory.
    return hostname();
  }
}
