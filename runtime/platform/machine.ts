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
