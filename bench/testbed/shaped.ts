/**
 * The testbed of any machine: devices are processes that throttle themselves. Lines are reckoned by the devices'
 * transports on loopback, in both directions; kernels are paced. What is missing beside `namespaces.ts`: the behaviour of
 * TCP on a slow line, and a limit of memory that is enforced.
 */

import type { Ref } from "../../runtime/index.ts";
import { TestbedError } from "./error.ts";
import { GAUGE_NAME, type Gauge, type PacedDevice } from "./paced-device.ts";
import { Processes } from "./processes.ts";
import { REFERENCE_GFLOPS } from "./reference-kernel.ts";
import { sharesOf } from "./shares.ts";
import type { BedDevice, BedSpec, BedUsage, Testbed } from "./testbed.ts";

const LOOPBACK = "tcp://127.0.0.1:0";
const SCRIPT = new URL("./paced-device.ts", import.meta.url).pathname;

/** @throws TestbedError when a device does not start, or is too slow beside the others. */
export async function openShaped(specs: readonly BedSpec[], note: (line: string) => void): Promise<Testbed> {
  const shares = sharesOf(specs.map(({ speed }) => speed));
  const percents = shares.map((share) => `${(share * 100).toFixed(1)} %`);
  const processes = new Processes((index, how) => new TestbedError(`${specs[index]!.name} ended: ${how}`));
  const { node } = processes;
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= processes.close();
    return closing;
  };
  try {
    note("starting devices");
    const devices = await Promise.all(
      specs.map(async (spec, i): Promise<BedDevice & { readonly gauge: Ref<Gauge> }> => {
        const { name, memoryBytes, line } = spec;
        const device: PacedDevice = { name, memoryBytes, line, share: shares[i]!, listen: LOOPBACK };
        const joined = await processes.start(name, [process.execPath, SCRIPT, JSON.stringify(device)]);
        const gauge = await node.lookup<Gauge>(joined.ref.address.node, GAUGE_NAME);
        return { ...joined, spec, share: shares[i]!, gauge: gauge! };
      }),
    );
    return {
      kind: "shaped",
      about: [
        "shaped links and throttled engines on loopback: lines reckoned by the transports in both directions, " +
          "kernels paced; memory limits are claims, which only the planner heeds",
        `shares of a processor that does ${REFERENCE_GFLOPS.toFixed(0)} GFLOP/s: ${percents.join(", ")}`,
      ],
      ...{ node, devices, close },
      usage: () =>
        Promise.all(
          devices.map(async ({ ref, gauge }): Promise<BedUsage> => {
            const [{ peakBytes }, used] = await Promise.all([ref.ask.usage(), gauge.ask.read()]);
            return { ...used, peakBytes };
          }),
        ),
      guard: (work) => processes.guard(work),
      unshaped: (work) => processes.guard(work),
    };
  } catch (error) {
    await close();
    throw error;
  }
}
