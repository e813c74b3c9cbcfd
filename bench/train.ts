/**
 * `bench train`: what a training step costs, beside PyTorch's in the same run; where the time goes; what is lost on
 * three devices against the ideal; and the memory it takes.
 */

import { UsageError } from "../cli/command.ts";
import type { Options } from "../cli/options.ts";
import type { Suite, SuiteContext } from "./suite.ts";
import type { Part, PartContext, PartResult } from "./train/parts.ts";
import { peak } from "./train/peak.ts";
import { pipeline } from "./train/pipeline.ts";
import { speed } from "./train/speed.ts";
import { time } from "./train/time.ts";
import { QUICK_WORKLOAD, SPEED_WORKLOAD } from "./workload.ts";

const PARTS: Readonly<Record<string, Part>> = { speed, time, pipeline, memory: peak };
const DEFAULTS = { rounds: 9, steps: 3 };
const QUICK = { rounds: 2, steps: 2 };

export const train: Suite = {
  name: "train",
  summary: "the speed of a training step beside PyTorch's, and what is lost where",
  options: {
    rounds: { value: "N", help: `rounds in which all contenders take turns (default: ${DEFAULTS.rounds})` },
    steps: { value: "N", help: `steps of each contender in a round (default: ${DEFAULTS.steps})` },
    only: { value: "part", help: `one part alone: ${Object.keys(PARTS).join(", ")}`, repeated: true },
    compile: { help: "also PyTorch with torch.compile" },
    quick: { help: "a tiny model and few rounds: tries the bench, says nothing about speed" },
  },
  run: async (options, context) => {
    const part = partContext(options, context);
    const wanted = options.all("only");
    const unknown = wanted.find((name) => !Object.hasOwn(PARTS, name));
    if (unknown !== undefined) {
      throw new UsageError(`--only ${unknown} is not a part; there is ${Object.keys(PARTS).join(", ")}`);
    }
    const results: PartResult[] = [];
    for (const [name, measure] of Object.entries(PARTS)) {
      if (wanted.length === 0 || wanted.includes(name)) results.push(await measure(part));
    }
    return {
      report: {
        title: "Training",
        sections: results.flatMap(({ sections }) => sections),
        figures: Object.assign({}, ...results.map(({ figures }) => figures)),
      },
      versions: results.flatMap(({ versions = [] }) => versions),
    };
  },
};

function partContext(options: Options, { folder, note }: SuiteContext): PartContext {
  const quick = options.has("quick");
  const defaults = quick ? QUICK : DEFAULTS;
  return {
    workload: quick ? QUICK_WORKLOAD : SPEED_WORKLOAD,
    rounds: options.whole("rounds", { from: 1, to: 1000 }) ?? defaults.rounds,
    steps: options.whole("steps", { from: 1, to: 1000 }) ?? defaults.steps,
    compile: options.has("compile"),
    folder,
    note,
  };
}
