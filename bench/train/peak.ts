/** The most memory a device needs: from whole runs of `troupe train`, as its last event tells. */

import { join } from "node:path";
import { run as runChild } from "../child.ts";
import { megabytes } from "../format.ts";
import { trainArguments } from "../workload.ts";
import type { Part } from "./parts.ts";

const RUNS = [
  { name: "one device", args: ["--strategy", "single"] },
  { name: "3 devices, 1f1b", args: ["--devices", "3", "--schedule", "1f1b"] },
  { name: "3 devices, 1f1b, recompute", args: ["--devices", "3", "--schedule", "1f1b", "--recompute"] },
  { name: "3 devices, gpipe", args: ["--devices", "3", "--schedule", "gpipe"] },
  { name: "3 devices, gpipe, recompute", args: ["--devices", "3", "--schedule", "gpipe", "--recompute"] },
] as const;

const STEPS = 10;

interface DoneEvent {
  readonly event: "done";
  readonly devices: readonly { name: string; peak_bytes: number; tensor_bytes: number }[];
}

export const peak: Part = async ({ workload, steps, folder, note }) => {
  const count = Math.min(STEPS, 2 * steps);
  const measured: { name: string; devices: DoneEvent["devices"] }[] = [];
  for (const [i, { name, args }] of RUNS.entries()) {
    note(`peak memory: ${name}`);
    const out = join(folder, `peak-${i}`);
    const train = [process.execPath, join(import.meta.dir, "../../cli/main.ts"), "train", "--json"];
    const options = [...trainArguments(workload), "--steps", `${count}`, "--sample", "0", "--out", out];
    const lines = await runChild({ command: [...train, ...options, ...args] });
    const done = JSON.parse(lines.at(-1)!) as DoneEvent;
    measured.push({ name, devices: done.devices });
  }
  return {
    sections: [
      {
        title: "Peak memory of each device",
        text: [
          `The most a device's process had resident in a run of ${count} steps, measuring itself, validation and checkpoint included, and the tensors it held at the end.`,
        ],
        table: {
          columns: ["", "device", "peak", "tensors"],
          rows: measured.flatMap(({ name, devices }) =>
            devices.map((device) => [
              name,
              device.name,
              megabytes(device.peak_bytes),
              megabytes(device.tensor_bytes),
            ]),
          ),
        },
      },
    ],
    figures: { peakMemory: measured },
  };
};
