/**
 * Calibration: quotas that give devices the relative speeds that were asked for, measured on work done. A thread that
 * is stopped a hundred times a second does up to a fifth less in the same processor time, the more the smaller its share
 * is, so quotas in proportion to the speeds would make slow devices too slow.
 *
 * Each device's group of threads is lent to a process with a kernel, all at once, as they will run; after each window
 * the shares are corrected by what came out. All are on one processor, so what disturbs one disturbs all, and their
 * ratios stay.
 */

import { join } from "node:path";
import { LineChild } from "../child.ts";
import { median } from "../statistics.ts";
import { quotaOf, setQuota } from "./cgroup.ts";
import { TestbedError } from "./error.ts";
import { corrected, deviation, sharesOf } from "./shares.ts";
import { writeValue } from "./system.ts";
import { kernelThread, pin } from "./threads.ts";

const SCRIPT = new URL("./calibrator.ts", import.meta.url).pathname;
const WINDOW_MS = 250;
/** Windows that a speed is the median of. */
const WINDOWS = 3;
const MOST_ROUNDS = 12;
/** Where the machine is too noisy for the tolerance, what is still worth measuring with. */
const MOST_DEVIATION = 0.1;

export interface Calibrated {
  /** Of one processor, by device. */
  readonly shares: readonly number[];
  /** Runs of the kernel per second. */
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
    let best: Calibrated | undefined;
    for (let round = 0; round < MOST_ROUNDS; round++) {
      for (const [i, group] of groups.entries()) setQuota(group, quotaOf(shares[i]!));
      const speeds = await measure(kernels);
      const came = { shares, speeds, deviation: deviation(asked, speeds) };
      if (!best || came.deviation < best.deviation) best = came;
      if (best.deviation <= tolerance) return best;
      shares = corrected(shares, asked, speeds);
    }
    if (best!.deviation <= MOST_DEVIATION) return best!;
    throw new TestbedError(
      `the devices' relative speeds stayed ${(best!.deviation * 100).toFixed(1)} % off what was asked for: ` +
        "other programs keep the processors too busy",
    );
  } finally {
    await Promise.all(kernels.map((kernel) => kernel.close()));
  }
}

/** Runs per second of each, all running at once. */
async function measure(kernels: readonly LineChild[]): Promise<number[]> {
  const windows: number[][] = kernels.map(() => []);
  for (let window = 0; window < WINDOWS; window++) {
    const answers = await Promise.all(kernels.map((kernel) => kernel.ask(`${WINDOW_MS}`)));
    answers.forEach((answer, i) => {
      const { runs, ms } = JSON.parse(answer) as { runs: number; ms: number };
      windows[i]!.push((runs / ms) * 1000);
    });
  }
  return windows.map((speeds) => median(speeds));
}
