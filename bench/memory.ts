/**
 * `bench memory`: whether the memory of a device stays flat over a long run. A small model, so that many steps pass
 * in little time, on three device processes; their resident memory is read as the steps go by.
 */

import { join } from "node:path";
import { workersOf } from "../actors/scheduler/plan.ts";
import { Deployment } from "./deployment.ts";
import { megabytes } from "./format.ts";
import { residentBytes } from "./processes.ts";
import { median, theilSenSlope } from "./statistics.ts";
import type { Suite } from "./suite.ts";
import { QUICK_WORKLOAD, SPEED_WORKLOAD, trainArguments } from "./workload.ts";

const DEVICES = 3;
const STEPS = 500;
/** Readings over the run. */
const SAMPLES = 100;
/** The first part of a run warms up: pools fill and code is compiled. */
const SETTLED = 0.2;
/**
 * More than this over the settled part is a leak: a share of what was there. Memory goes up and down by as much, since
 * what has been received is collected as garbage from time to time.
 */
const TOLERANCE = 0.1;

export const memory: Suite = {
  name: "memory",
  summary: "whether the memory of each device stays flat over many steps",
  options: {
    steps: { value: "N", help: `steps (default: ${STEPS})` },
    full: { help: "the default model instead of a small one; takes minutes" },
    schedule: { value: "name", help: "1f1b or gpipe (default: 1f1b)" },
  },
  run: async (options, { folder, note }) => {
    const steps = options.whole("steps", { from: 10 }) ?? STEPS;
    const workload = options.has("full") ? SPEED_WORKLOAD : QUICK_WORKLOAD;
    const schedule = options.text("schedule") ?? "1f1b";
    const args = ["--devices", `${DEVICES}`, "--schedule", schedule, "--out", join(folder, "memory")];
    const deployment = await Deployment.open([...trainArguments(workload), ...args]);
    try {
      note(`memory: ${steps} steps on ${DEVICES} devices`);
      const every = Math.max(1, Math.round(steps / SAMPLES));
      const readings: Reading[][] = deployment.pids.map(() => []);
      for (let step = 0; step < steps; step += every) {
        await deployment.steps(Math.min(every, steps - step));
        deployment.pids.forEach((pid, stage) => {
          const bytes = residentBytes(pid);
          if (bytes !== null) readings[stage]!.push({ step: step + every, bytes });
        });
      }
      const known = readings.every((samples) => samples.length > 0);
      const text = known
        ? `${steps} steps of ${workload === SPEED_WORKLOAD ? "the 3.3 M-parameter" : "a small"} model, ${schedule}: ` +
          `resident memory, medians of the first and last tenth of the last ${100 * (1 - SETTLED)} %, and the slope over it.`
        : "Skipped: the memory of other processes is read from /proc, which this system does not have.";
      const found = known ? readings.map(judge) : [];
      return {
        report: {
          title: "Memory over many steps",
          sections: [
            {
              title: `${DEVICES} devices`,
              text: [text],
              ...(known && {
                table: {
                  columns: ["device", "first", "last", "slope per 100 steps", "flat"],
                  rows: found.map(({ first, last, slope, flat }, stage) => [
                    workersOf(deployment.plan)[stage]!.member.deviceName,
                    megabytes(first),
                    megabytes(last),
                    `${((slope * 100) / 1e6).toFixed(2)} MB`,
                    flat ? "yes" : "NO",
                  ]),
                },
              }),
            },
          ],
          figures: { steps, devices: found, readings },
        },
        versions: [],
      };
    } finally {
      await deployment.close();
    }
  },
};

export interface Reading {
  readonly step: number;
  readonly bytes: number;
}

export interface Judgement {
  /** Medians of the first and the last tenth of the settled part, bytes. */
  readonly first: number;
  readonly last: number;
  /** Bytes per step. */
  readonly slope: number;
  readonly flat: boolean;
}

/** Judges the readings of one device, in the order they were taken. */
export function judge(readings: readonly Reading[]): Judgement {
  const settled = readings.slice(Math.floor(readings.length * SETTLED));
  const tenth = Math.max(1, Math.floor(settled.length / 10));
  const first = median(settled.slice(0, tenth).map(({ bytes }) => bytes));
  const last = median(settled.slice(-tenth).map(({ bytes }) => bytes));
  const slope =
    settled.length < 2 ? 0 : theilSenSlope(settled.map(({ step, bytes }) => ({ x: step, y: bytes })));
  const growth = slope * (settled.at(-1)!.step - settled[0]!.step);
  return { first, last, slope, flat: growth <= TOLERANCE * first };
}
