/**
 * Taking a testbed down: its processes, network namespaces, bridge and control groups, found by their names. So the same
 * few lines serve at the end of a run, behind one that crashed, and before one that finds a dead one's leftovers.
 */

import { findGroups, processesIn, removeGroup } from "./cgroup.ts";
import { ownerOf } from "./names.ts";
import { command, namesIn } from "./system.ts";

const CONTROLLERS = ["cpu", "memory"] as const;
const NAMESPACES = "/run/netns";
/** A killed process takes a moment to be gone, and its group until then to be free. */
const PATIENCE_MS = 5000;
const PAUSE_MS = 20;

/** Removes everything of the testbeds that belong to such processes. @throws TestbedError for what cannot be removed. */
export async function cleanUp(isOwner: (pid: number) => boolean): Promise<void> {
  const isOurs = (name: string) => {
    const owner = ownerOf(name);
    return owner !== undefined && isOwner(owner);
  };
  const groups = CONTROLLERS.flatMap((controller) => findGroups(controller, isOurs));
  await patiently(() => {
    const left = groups.flatMap(processesIn);
    for (const pid of left) kill(pid);
    return left.length === 0;
  });
  for (const name of namesIn(NAMESPACES).filter(isOurs)) {
    for (const pid of command("ip", "netns", "pids", name).split("\n").filter(Boolean)) kill(Number(pid));
    command("ip", "netns", "del", name);
  }
  for (const name of namesIn("/sys/class/net").filter(isOurs)) {
    // Cables go with the namespace that one end is in, a little later.
    await patiently(() => !namesIn("/sys/class/net").includes(name) || removed(name));
  }
  for (const group of groups)
    await patiently(
      () => succeeds(() => removeGroup(group)),
      () => removeGroup(group),
    );
}

function removed(link: string): boolean {
  return succeeds(() => command("ip", "link", "del", link));
}

function succeeds(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** Repeats until it is done; after a while, for the last time, in a way that says why not. */
async function patiently(isDone: () => boolean, atLast: () => void = () => {}): Promise<void> {
  for (let waited = 0; waited < PATIENCE_MS; waited += PAUSE_MS) {
    if (isDone()) return;
    await Bun.sleep(PAUSE_MS);
  }
  atLast();
}
