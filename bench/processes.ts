/**
 * What Linux tells of running processes under /proc: the memory they have resident, and the time their threads have
 * been on a core. Elsewhere there is nothing to read, and the answer is null.
 */

import { readdirSync, readFileSync } from "node:fs";

/** Bytes resident now; null where that cannot be known. */
export function residentBytes(pid: number): number | null {
  const status = read(`/proc/${pid}/status`);
  return status === null ? null : parseResident(status);
}

/** From the text of /proc/<pid>/status. */
export function parseResident(status: string): number | null {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(status);
  return match ? Number(match[1]) * 1024 : null;
}

/** Milliseconds on a core since each thread began, by thread id; null where that cannot be known. */
export function threadTimes(pid: number): Map<string, number> | null {
  const times = new Map<string, number>();
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const text = read(`/proc/${pid}/task/${thread}/schedstat`);
      if (text !== null) times.set(thread, parseSchedstat(text));
    }
  } catch {
    return null;
  }
  return times.size === 0 ? null : times;
}

/** From the text of schedstat, whose first number is nanoseconds on a core. */
export function parseSchedstat(text: string): number {
  return Number(text.split(" ")[0]) / 1e6;
}

/** The most that one thread was on a core between two readings: in a device, the thread with the kernels. */
export function busiestMs(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): number {
  return Math.max(0, ...[...after].map(([thread, ms]) => ms - (before.get(thread) ?? 0)));
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // It has ended, or there is no /proc.
  }
}
