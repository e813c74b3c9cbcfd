/**
 * Control groups of Linux in their first version, where a single thread can be throttled beside its process: which
 * hierarchies are mounted where, and groups in them with a quota of a processor or a limit of memory.
 *
 * Every value that is written is read back. A quota below a millisecond is refused by the kernel, and who ignores that
 * goes on at full speed. Reference: Documentation/scheduler/sched-bwc.rst and
 * Documentation/admin-guide/cgroup-v1/memory.rst in the sources of Linux.
 */

import { mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { TestbedError } from "./error.ts";
import { namesIn, readValue, setValue, writeValue } from "./system.ts";

export type Controller = "cpu" | "memory";

/** The group that this process is in. @throws TestbedError where the controller has no hierarchy of version 1. */
export function ownGroup(controller: Controller): string {
  return join(mountOf(controller), ownPath(controller));
}

/** Where a controller's hierarchy is mounted. @throws TestbedError. */
export function mountOf(controller: Controller, mounts = readValue("/proc/mounts")): string {
  for (const line of mounts.split("\n")) {
    const [, folder, kind, options = ""] = line.split(" ");
    if (kind === "cgroup" && options.split(",").includes(controller)) return folder!;
  }
  throw new TestbedError(`control groups of version 1 have no ${controller} hierarchy here`);
}

function ownPath(controller: Controller): string {
  for (const line of readValue("/proc/self/cgroup").split("\n")) {
    const [, controllers = "", ...path] = line.split(":");
    if (controllers.split(",").includes(controller)) return path.join(":");
  }
  return "/";
}

/** Makes a group, and those it is in. @throws TestbedError. */
export function makeGroup(path: string): string {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new TestbedError(`cannot make the control group ${path}: ${(error as Error).message}`);
  }
  return path;
}

/** A share of one processor. */
export interface Quota {
  readonly periodUs: number;
  readonly quotaUs: number;
}

/** What the kernel takes at least, for either. */
export const LEAST_QUOTA_US = 1000;
/**
 * How long a thread that has used up its quota stands still until the next period. The shorter, the less a kernel that
 * begins after a rest gets in advance; but other threads of the processor run for 3 ms at a time, and where there is no
 * room for that a quota cannot be used up.
 */
const STOP_US = 5000;
const SHORTEST_PERIOD_US = 5000;
const LONGEST_PERIOD_US = 20_000;
/** The least share of a processor that can be had: a millisecond of the longest period that is still even enough. */
export const LEAST_SHARE = LEAST_QUOTA_US / LONGEST_PERIOD_US;

/**
 * A share of a processor as a quota.
 * @throws TestbedError for a share that is too small.
 */
export function quotaOf(share: number): Quota {
  if (!(share >= LEAST_SHARE && share <= 1)) {
    throw new TestbedError(
      `a share of ${(share * 100).toFixed(2)} % of a processor cannot be had, ${LEAST_SHARE * 100} % is the least: ` +
        "use fewer devices, or devices of less different speeds",
    );
  }
  const needed = Math.max(SHORTEST_PERIOD_US, LEAST_QUOTA_US / share, STOP_US / (1 - share));
  const periodUs = Math.min(LONGEST_PERIOD_US, Math.ceil(needed));
  return { periodUs, quotaUs: Math.max(LEAST_QUOTA_US, Math.round(share * periodUs)) };
}

/** @throws TestbedError where the kernel has it otherwise. */
export function setQuota(group: string, { periodUs, quotaUs }: Quota): void {
  // Neither is ever refused for the value that the other still has.
  writeValue(join(group, "cpu.cfs_quota_us"), -1);
  setValue(join(group, "cpu.cfs_period_us"), periodUs);
  setValue(join(group, "cpu.cfs_quota_us"), quotaUs);
}

const PAGE_BYTES = 4096;

/** @throws TestbedError where the kernel has it otherwise. */
export function setMemoryLimit(group: string, bytes: number): void {
  setValue(join(group, "memory.limit_in_bytes"), Math.floor(bytes / PAGE_BYTES) * PAGE_BYTES);
}

/** How often something in a group was killed because it hit the limit; 0 for one that is gone. */
export function memoryKills(group: string): number {
  if (!namesIn(group).includes("memory.oom_control")) return 0;
  return Number(/^oom_kill (\d+)$/m.exec(readValue(join(group, "memory.oom_control")))?.[1] ?? 0);
}

/** Processes in a group and in those within it. */
export function processesIn(group: string): number[] {
  const own = namesIn(group).includes("cgroup.procs") ? readValue(join(group, "cgroup.procs")) : "";
  const within = subgroups(group).flatMap(processesIn);
  return [
    ...own
      .split("\n")
      .filter((line) => line !== "")
      .map(Number),
    ...within,
  ];
}

/** Removes a group and those within it. @throws TestbedError when something is still in one. */
export function removeGroup(group: string): void {
  for (const inner of subgroups(group)) removeGroup(inner);
  try {
    rmdirSync(group);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return;
    throw new TestbedError(`cannot remove the control group ${group}: ${(error as Error).message}`);
  }
}

/** Groups whose name says that they are a testbed's, at any depth of a controller's hierarchy. */
export function findGroups(controller: Controller, isOurs: (name: string) => boolean): string[] {
  const search = (folder: string): string[] =>
    subgroups(folder).flatMap((path) => (isOurs(path.slice(folder.length + 1)) ? [path] : search(path)));
  return search(mountOf(controller));
}

function subgroups(group: string): string[] {
  return readFolders(group).map((name) => join(group, name));
}

function readFolders(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return []; // It is gone.
  }
}
