/**
 * What Linux tells of running processes under /proc: the memory they have resident, and the time their threads have
 * been on a core and have waited for one. Elsewhere there is nothing to read, and the answer is null.
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

export interface CoreTime {
  /** On a core. */
  readonly runMs: number;
  /** Ready to run, while other threads had the cores. */
  readonly waitMs: number;
}

/** Since the threads began, by thread id; null where that cannot be known. */
export function threadTimes(pid: number): Map<string, CoreTime> | null {
  const times = new Map<string, CoreTime>();
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

/** From the text of schedstat: nanoseconds on a core, nanoseconds waiting, time slices. */
export function parseSchedstat(text: string): CoreTime {
  const [run = 0, wait = 0] = text.trim().split(/\s+/).map(Number);
  return { runMs: run / 1e6, waitMs: wait / 1e6 };
}

/** What was spent between two readings, by thread. */
export function spentBetween(
  before: ReadonlyMap<string, CoreTime>,
  after: ReadonlyMap<string, CoreTime>,
): CoreTime[] {
  return [...after].map(([thread, { runMs, waitMs }]) => {
    const earlier = before.get(thread) ?? { runMs: 0, waitMs: 0 };
    return { runMs: runMs - earlier.runMs, waitMs: waitMs - earlier.waitMs };
  });
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // It has ended, or there is no /proc.
  }
}
