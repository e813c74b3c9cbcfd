/** Whether devices can be emulated here in network namespaces and control groups, and what is missing if not. */

import { rmdirSync } from "node:fs";
import { join } from "node:path";
import { makeGroup, mountOf, ownGroup } from "./cgroup.ts";
import { command } from "./system.ts";

const TOOLS = ["ip", "tc", "nsenter", "unshare", "taskset", "sysctl"];

/** One line that says what is missing; null when nothing is. Never throws, leaves nothing behind. */
export function missingForNamespaces(): string | null {
  if (process.platform !== "linux") return "network namespaces and control groups are Linux's";
  if (process.getuid?.() !== 0) return "network namespaces and control groups need root";
  const missing = TOOLS.filter((tool) => Bun.which(tool) === null);
  if (missing.length > 0) return `missing: ${missing.join(", ")} (packages iproute2, util-linux and procps)`;
  try {
    for (const controller of ["cpu", "memory"] as const) {
      mountOf(controller);
      const group = join(ownGroup(controller), `troupe-probe-${process.pid}`);
      rmdirSync(makeGroup(group));
    }
    // In a namespace that ends with the command.
    const trial = [
      "ip link add cable0 type veth peer name cable1",
      "ip link add switch0 type bridge",
      "tc qdisc add dev cable0 root tbf rate 1mbit burst 18kb latency 20ms",
    ];
    command("unshare", "--net", "--uts", "sh", "-c", trial.join(" && "));
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}
