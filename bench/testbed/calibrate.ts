/**
 * Calibration: quotas that give devices the relative speeds that were asked for, measured on work done. A thread that
 * is stopped a hundred times a second does up to a fifth less in the same processor time, the more the smaller its share
 * is, so quotas in proportion to the speeds would make slow devices too slow.
 *
 * Each device's group of threads is lent to a process with a kernel, all at once, as they will run. All are on one
 * processor, so what disturbs one disturbs all, and how much each does for its share beside the others is known from the
 * median of some windows. The shares follow from that, and are right when more windows say the same.
 */

import { join } from "node:path";
import { LineChild } from "../child.ts";
import { median } from "../statistics.ts";
import { quotaOf, setQuota } from "./cgroup.ts";
import { TestbedError } from "./error.ts";
import { deviation, effectOf, sharesOf } from "./shares.ts";
import { writeValue } from "./system.ts";
import { kernelThread, pin } from "./threads.ts";

const SCRIPT = new URL("./calibrator.ts", import.meta.url).pathname;
const WINDOW_MS = 250;
/** Between two corrections. */
const WINDOWS = 3;
const MOST_ROUNDS = 12;

export interface Calibrated {
  /** Of one processor, by device. */
  readonly shares: readonly number[];
  /** What comes of them, beside each other. */
  readonly speeds: readonly number[];
  /** How far speeds are from those asked for, as a part of them. */
  readonly deviation: number;
}

/**
 * Sets the quotas of groups, one for each speed.
 * @throws TestbedError when the speeds asked for cannot be had, or the machine is too busy to bring them about.
 */
export async function calibrate(
  groups: readonly string[],
  asked: readonly number[],
  { processor, tolerance }: { readonly processor: number; readonly tolerance: number },
): Promise<Calibrated> {
  let shares = sharesOf(asked);
  const kernels: LineChild[] = [];
  try {
    const starting = groups.map(() => LineChild.start({ command: [process.execPath, SCRIPT] }));
    for (const result of await Promise.allSettled(starting)) {
      if (result.status === "fulfilled") kernels.push(result.value);
    }
    await Promise.all(starting);
    for (const [i, kernel] of kernels.entries()) {
      const thread = await kernelThread(JSON.parse(kernel.greeting).pid);
      pin(thread, processor);
      writeValue(join(groups[i]!, "tasks"), thread);
    }
    /** By window, then by device: what a share does beside the others' shares. */
    const effects: number[][] = [];
    let off = Number.POSITIVE_INFINITY;
    for (let round = 0; round < MOST_ROUNDS; round++) {
      for (const [i, group] of groups.entries()) setQuota(group, quotaOf(shares[i]!));
      for (let window = 0; window < WINDOWS; window++) {
        effects.push(effectOf(shares, await measure(kernels)));
      }
      const effect = asked.map((_, i) => median(effects.map((each) => each[i]!)));
      const speeds = shares.map((share, i) => share * effect[i]!);
      off = deviation(asked, speeds);
      if (round > 0 && off <= tolerance) return { shares, speeds, deviation: off };
      shares = sharesOf(asked.map((speed, i) => speed / effect[i]!));
    }
    throw new TestbedError(
      `the devices' relative speeds are still ${(off * 100).toFixed(1)} % off what was asked for: ` +
        "other programs keep the processors too busy",
    );
  } finally {
    await Promise.all(kernels.map((kernel) => kernel.close()));
  }
}

/** Runs per second of each, all running at once. */
async function measure(kernels: readonly LineChild[]): Promise<number[]> {
  const answers = await Promise.all(kernels.map((kernel) => kernel.ask(`${WINDOW_MS}`)));
  return answers.map((answer) => {
    const { runs, ms } = JSON.parse(answer) as { runs: number; ms: number };
    return (runs / ms) * 1000;
  });
}
