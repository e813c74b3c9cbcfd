/**
 * The name of the thread that kernels run in, as Linux shows it (`top -H`, /proc/<pid>/task/<tid>/comm). With it
 * whoever watches or throttles a device from outside finds that thread among all others of the process.
 */

import { writeFileSync } from "node:fs";

/** At most 15 bytes, the kernel's limit; see proc_pid_comm(5). */
export const KERNEL_THREAD = "troupe-kernels";

/** Gives the calling thread that name; without effect where there is no such thing. Never throws. */
export function nameKernelThread(): void {
  try {
    writeFileSync("/proc/thread-self/comm", KERNEL_THREAD);
  } catch {
    // Not Linux, or not allowed: the name is for people and tools, nothing depends on it here.
  }
}
