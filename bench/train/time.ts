/** Where the time of a step goes on one device: by operator in the kernels, and around the kernels. */

import { join } from "node:path";
import { readDefaultText } from "../../actors/data/corpus.ts";
import { files } from "../../runtime/platform/files.ts";
import { Deployment, type MeasuredStep } from "../deployment.ts";
import { milliseconds, percent } from "../format.ts";
import { openLocal, trainArguments } from "../workload.ts";
import type { Part, PartContext } from "./parts.ts";

const WARM_UP = 3;

export const time: Part = async (context) => {
  const operators = await operatorTimes(context);
  const accounts = await accountsOfSteps(context);
  const inKernels = operators.reduce((sum, { ms }) => sum + ms, 0);
  const stepMs = accounts.reduce((sum, { ms }) => sum + ms, 0);
  return {
    sections: [
      {
        title: "Where the time goes, one device",
        text: ["A step through the actors, by what the device and the scheduler report; means."],
        table: {
          columns: ["", "per step", "share"],
          rows: accounts.map(({ name, ms }) => [name, milliseconds(ms), percent(ms / stepMs)]),
        },
      },
      {
        title: "Kernels by operator",
        text: ["From ONNX Runtime's profile of a run of its own, which profiling slows down; per step."],
        table: {
          columns: ["operator", "per step", "share"],
          rows: withoutSmall(operators, inKernels).map(({ op, ms }) => [
            op,
            milliseconds(ms),
            percent(ms / inKernels),
          ]),
        },
      },
    ],
    figures: { account: accounts, operators },
  };
};

/** Those under half a per cent as one. */
function withoutSmall(operators: readonly { op: string; ms: number }[], inAll: number) {
  const large = operators.filter(({ ms }) => ms >= 0.005 * inAll);
  const small = operators.slice(large.length);
  const rest = small.reduce((sum, { ms }) => sum + ms, 0);
  return small.length === 0 ? large : [...large, { op: `${small.length} others`, ms: rest }];
}

async function operatorTimes({ workload, rounds, steps, note }: PartContext) {
  note("kernels by operator");
  const device = await openLocal(workload, await readDefaultText(files), true);
  try {
    for (let i = 0; i < WARM_UP; i++) await device.step();
    const before = await device.operatorTimes();
    const count = Math.min(10, rounds * steps);
    for (let i = 0; i < count; i++) await device.step();
    const after = await device.operatorTimes();
    return [...after]
      .map(([op, ms]) => ({ op, ms: (ms - (before.get(op) ?? 0)) / count }))
      .sort((a, b) => b.ms - a.ms);
  } finally {
    await device.close();
  }
}

async function accountsOfSteps(context: PartContext) {
  const { workload, rounds, steps, folder, note } = context;
  note("where the time goes");
  const out = join(folder, "account");
  const args = [...trainArguments(workload), "--strategy", "single", "--out", out];
  const deployment = await Deployment.open(args);
  try {
    await deployment.steps(WARM_UP);
    return account(await deployment.steps(rounds * steps));
  } finally {
    await deployment.close();
  }
}

/** The mean step of a single stage, in parts that add up to it. */
export function account(
  steps: readonly Pick<MeasuredStep, "ms" | "reports">[],
): { name: string; ms: number }[] {
  const rows = steps.map(({ ms, reports }) => {
    const { kernelMs, copyMs, waitMs, totalMs, spans } = reports[0]!;
    const updates = spans.filter(({ op }) => op === "update").map((span) => span.kernelMs);
    const update = updates.reduce((a, b) => a + b, 0);
    // Of the two runs of the optimiser the first is before the stage's report and among its kernels.
    const behindGate = updates.at(-1) ?? 0;
    return {
      "kernels: forward and backward": kernelMs - (update - behindGate),
      "kernels: optimiser": update,
      "copies into slots": copyMs,
      "idle: waiting for inputs": waitMs,
      "stage: dispatch to the engine's thread": totalMs - kernelMs - copyMs - waitMs,
      "messages: scheduler, commit gate": ms - totalMs - behindGate,
    };
  });
  const mean = (name: keyof (typeof rows)[number]) =>
    rows.reduce((sum, row) => sum + row[name], 0) / rows.length;
  const names = Object.keys(rows[0] ?? {}) as (keyof (typeof rows)[number])[];
  return names.map((name) => ({ name, ms: mean(name) }));
}
