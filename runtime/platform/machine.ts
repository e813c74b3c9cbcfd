/** What this process runs on, and what it has used of it. */

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
