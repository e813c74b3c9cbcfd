/** The testbed of network namespaces: lines that are as slow as asked for, limits that are told, nothing left behind. */

import { afterEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { findGroups } from "../../../bench/testbed/cgroup.ts";
import { transferMs } from "../../../bench/testbed/link.ts";
import { machineHolder } from "../../../bench/testbed/machine.ts";
import { ownerOf } from "../../../bench/testbed/names.ts";
import { missingForNamespaces } from "../../../bench/testbed/probe.ts";
import { namesIn } from "../../../bench/testbed/system.ts";
import { type BedSpec, openTestbed, type Testbed } from "../../../bench/testbed/testbed.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const holder = machineHolder();
const missing =
  holder === null ? missingForNamespaces() : `process ${holder} has a testbed open on this machine`;
if (missing !== null) console.warn(`testbed of namespaces: skipped, ${missing}`);

/** Speeds are calibrated as well as a machine that is busy with tests allows, which nobody here relies on. */
const KIND = { kind: "namespaces", tolerance: 0.1 } as const;
const COMPUTE = ["paced", "quota"] as const;

const spec = (name: string, rest: Partial<BedSpec> = {}): BedSpec => ({
  ...{ name, speed: 1, memoryBytes: 64e6, line: { megabits: 100, latencyMs: 0 } },
  ...rest,
});

/** Namespaces, links and groups of a process's testbed. */
function leftOf(owner: number): string[] {
  const isOurs = (name: string) => ownerOf(name) === owner;
  return [
    ...[...namesIn("/run/netns"), ...namesIn("/sys/class/net")].filter(isOurs),
    ...findGroups("cpu", isOurs),
    ...findGroups("memory", isOurs),
  ];
}

let bed: Testbed | undefined;
afterEach(async () => {
  await bed?.close();
  bed = undefined;
});

const limits = "two devices at 100 Mbit/s, kernels by %s; one is killed at its memory limit";
test.skipIf(missing !== null).each(COMPUTE)(limits, async (compute) => {
  bed = await openTestbed([spec("large", { speed: 2 }), spec("small")], { ...KIND, compute });
  const [large, small] = bed.devices;
  expect(large!.share / small!.share).toBeGreaterThan(1);
  const second = openTestbed([spec("third")], KIND);
  await expect(second).rejects.toThrow("this process has a testbed open: close it first");
  const described = await Promise.all(bed.devices.map(({ ref }) => ref.ask.describe()));
  expect(described.map(({ host, memoryBytes }) => [host, memoryBytes])).toEqual([
    ["large", 64e6],
    ["small", 64e6],
  ]);

  // No message is faster than its line; a busy machine makes it slower.
  const tensor = Tensor.zeros("u8", [1_000_000]);
  const before = await bed.usage();
  const began = performance.now();
  await large!.ref.ask.take(tensor);
  expect(performance.now() - began).toBeGreaterThan(transferMs(1_000_000, large!.spec.line));
  const after = await bed.usage();
  expect(after[0]!.receivedBytes - before[0]!.receivedBytes).toBeWithin(1_000_000, 1_200_000);
  expect(after[1]!.receivedBytes - before[1]!.receivedBytes).toBeLessThan(100_000);

  const huge = Tensor.zeros("u8", [250_000_000]);
  const killed = bed.unshaped(() => small!.ref.ask.take(huge));
  await expect(killed).rejects.toThrow("small was killed at its memory limit of 64 MB for training");

  await bed.close();
  expect(leftOf(process.pid)).toEqual([]);
  expect(existsSync(`/proc/${large!.pid}`)).toBe(false);
});

test.skipIf(missing !== null)("a testbed goes with the process that opened it", async () => {
  const script = `
    import { openTestbed } from ${JSON.stringify(new URL("../../../bench/testbed/testbed.ts", import.meta.url).pathname)};
    const bed = await openTestbed([${JSON.stringify(spec("alone"))}], ${JSON.stringify({ ...KIND, compute: "quota" })});
    console.log(bed.devices[0].pid);
    setInterval(() => {}, 1000);`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  try {
    const { value } = await child.stdout.getReader().read();
    const device = Number(new TextDecoder().decode(value));
    expect(leftOf(child.pid)).not.toEqual([]);
    child.kill("SIGKILL");
    await child.exited;
    while (leftOf(child.pid).length > 0 || existsSync(`/proc/${device}`)) await Bun.sleep(20);
  } finally {
    child.kill("SIGKILL");
  }
});

test.skipIf(missing !== null)("what cannot be had is refused in one line, and nothing is left", async () => {
  const slow = openTestbed([spec("fast"), spec("slow", { speed: 0.01 })], KIND);
  await expect(slow).rejects.toThrow(
    /the slowest device would get 0\.9 % of a processor, and 5 % is the least/,
  );
  expect(leftOf(process.pid)).toEqual([]);
});
