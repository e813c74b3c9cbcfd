/** One testbed at a time has the machine: two would share the processor that each counts as its own. */

import { readFileSync, rmSync } from "node:fs";
import { lock } from "../../runtime/platform/lock.ts";
import { cleanUp } from "./cleanup.ts";
import { TestbedError } from "./error.ts";

const LOCK = "/run/troupe-testbed.lock";
const PATIENCE_MS = 300_000;
const PAUSE_MS = 500;

/**
 * Waits for its turn, and removes what testbeds of dead processes have left.
 * @returns what gives the machine back. @throws TestbedError when it is not free for minutes.
 */
export async function takeMachine(note: (line: string) => void): Promise<() => Promise<void>> {
  for (let waited = 0; waited < PATIENCE_MS; waited += PAUSE_MS) {
    const release = await lock(LOCK).catch((error) => {
      if (error.reason !== "busy") throw error;
      return null;
    });
    if (release) {
      await cleanUp((pid) => pid === process.pid || !isAlive(pid));
      return release;
    }
    if (machineHolder() === process.pid)
      throw new TestbedError("this process has a testbed open: close it first");
    if (waited === 0) note("waiting for another testbed on this machine to end");
    await Bun.sleep(PAUSE_MS);
  }
  throw new TestbedError(`another testbed is open on this machine: its process is named in ${LOCK}`);
}

/** The living process whose testbed has the machine; null when it is free. */
export function machineHolder(): number | null {
  const owner = namedOwner();
  return owner !== null && isAlive(owner) ? owner : null;
}

/** Gives the machine back in the place of a process that is dead. */
export function giveBack(owner: number): void {
  if (namedOwner() === owner) rmSync(LOCK, { force: true });
}

function namedOwner(): number | null {
  try {
    return Number(readFileSync(LOCK, "utf8")) || null;
  } catch {
    return null; // Nobody has it.
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}
