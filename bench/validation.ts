/**
 * `bench validation`: what is learned, beside PyTorch: the loss on held-out text after the same number of steps from
 * the same initial weights over the same batches. The runs of `troupe train` and gpt.py are whole ones.
 */

import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { readDefaultText, readText } from "../actors/data/corpus.ts";
import { files } from "../runtime/platform/files.ts";
import { run as runChild } from "./child.ts";
import { findPyTorch, validate } from "./pytorch.ts";
import type { Suite } from "./suite.ts";
import { DEFAULT_WORKLOAD, QUICK_WORKLOAD, trainArguments } from "./workload.ts";

const STEPS = 300;
const SEED = 1;
const DEVICES = 3;

interface DoneEvent {
  readonly event: "done";
  readonly final_loss: number;
  readonly validation_loss: number;
  readonly tokens_per_s: number;
}

export const validation: Suite = {
  name: "validation",
  summary: "loss on held-out text after a whole run, beside PyTorch's",
  options: {
    data: { value: "file", help: "any UTF-8 text file (default: the installed TypeScript declarations)" },
    steps: { value: "N", help: `steps (default: ${STEPS})` },
    quick: { help: "a tiny model" },
  },
  run: async (options, { folder, note }) => {
    const steps = options.whole("steps", { from: 1 }) ?? STEPS;
    const workload = options.has("quick") ? QUICK_WORKLOAD : DEFAULT_WORKLOAD;
    const given = options.text("data");
    const text = await (given === undefined ? readDefaultText(files) : readText(files, given));
    const data = join(folder, "text.txt");
    writeFileSync(data, text.bytes);

    note(`validation: ${steps} steps on ${DEVICES} devices`);
    const train = [process.execPath, join(import.meta.dir, "../cli/main.ts"), "train", "--json"];
    const settings = {
      steps,
      seed: SEED,
      devices: DEVICES,
      data,
      sample: 0,
      out: join(folder, "validation"),
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const lines = await runChild({ command: [...train, ...trainArguments(workload), ...args] });
    const ours = JSON.parse(lines.at(-1)!) as DoneEvent;

    const torch = await findPyTorch(folder);
    note("absent" in torch ? `PyTorch: skipped, ${torch.absent}` : `validation: ${steps} steps of PyTorch`);
    const theirs = "absent" in torch ? null : await validate(torch, { ...workload, data }, steps, SEED);
    const named = basename(text.name);
    const row = (name: string, loss: number, held: number) => [name, loss.toFixed(4), held.toFixed(4)];
    return {
      report: {
        title: "Validation loss",
        sections: [
          {
            title: `${named}, ${steps} steps`,
            text: [
              `Nats per byte, from the same initial weights and the same batches; Troupe on ${DEVICES} devices.`,
              ...("absent" in torch ? [`PyTorch: skipped, ${torch.absent}`] : []),
            ],
            table: {
              columns: ["", "last step", "held-out text"],
              rows: [
                row("Troupe", ours.final_loss, ours.validation_loss),
                ...(theirs ? [row("PyTorch", theirs.loss, theirs.validationLoss)] : []),
              ],
            },
          },
        ],
        figures: { steps, text: named, troupe: ours, pytorch: theirs },
      },
      versions: "absent" in torch ? [] : [`PyTorch ${torch.version}`],
    };
  },
};
