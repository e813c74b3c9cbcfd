/** The thread of a device that its kernels run in, found from outside by its name. */

import { readFileSync } from "node:fs";
import { KERNEL_THREAD } from "../../nn/engine/native/thread.ts";
import { TestbedError } from "./error.ts";
import { command, namesIn } from "./system.ts";

const PATIENCE_MS = 30_000;
const PAUSE_MS = 10;

/** Its number, as soon as it is there. @throws TestbedError when it never is. */
export async function kernelThread(pid: number): Promise<number> {
  for (let waited = 0; waited < PATIENCE_MS; waited += PAUSE_MS) {
    // Threads that it starts begin with its name; it is the oldest.
    const found = namesIn(`/proc/${pid}/task`).filter((thread) => nameOf(pid, thread) === KERNEL_THREAD);
    if (found.length > 0) return Math.min(...found.map(Number));
    await Bun.sleep(PAUSE_MS);
  }
  throw new TestbedError(
    `process ${pid} has no thread ${KERNEL_THREAD} to throttle: only the native engine and the node binding have one`,
  );
}

/** Keeps a thread on one processor. @throws TestbedError. */
export function pin(thread: number, processor: number): void {
  command("taskset", "-p", "-c", `${processor}`, `${thread}`);
}

function nameOf(pid: number, thread: string): string {
  try {
    return readFileSync(`/proc/${pid}/task/${thread}/comm`, "utf8").trim();
  } catch {
    return ""; // It has ended.
  }
}
