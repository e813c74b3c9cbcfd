/**
 * `bench nn`: models on one engine beside the libraries that train the same: PyTorch on the processor, TensorFlow.js
 * and jax-js on WebAssembly; and how long compiling takes.
 */

import { UsageError } from "../cli/command.ts";
import { compile } from "./nn/compile.ts";
import { convolution } from "./nn/convolution.ts";
import { native } from "./nn/native.ts";
import { operators } from "./nn/operators.ts";
import type { NnContext, NnResult } from "./nn/parts.ts";
import { web } from "./nn/web.ts";
import type { Suite } from "./suite.ts";

const PARTS: Readonly<Record<string, (context: NnContext) => Promise<NnResult>>> = {
  gpt: (context) => native(context, "gpt"),
  mlp: (context) => native(context, "mlp"),
  resnet18: (context) => native(context, "resnet18"),
  convolution,
  operators,
  web,
  compile,
};
const DEFAULTS = { rounds: 9, steps: 3 };
const QUICK = { rounds: 1, steps: 1 };

export const nn: Suite = {
  name: "nn",
  summary: "training steps of models on one engine, beside PyTorch, TensorFlow.js and jax-js",
  options: {
    rounds: { value: "N", help: `rounds in which all contenders take turns (default: ${DEFAULTS.rounds})` },
    steps: { value: "N", help: `steps of each contender in a round (default: ${DEFAULTS.steps})` },
    only: { value: "part", help: `one part alone: ${Object.keys(PARTS).join(", ")}`, repeated: true },
    quick: { help: "tiny models and one round: tries the bench, says nothing about speed" },
  },
  run: async (options, { folder, note }) => {
    const wanted = options.all("only");
    const unknown = wanted.find((name) => !Object.hasOwn(PARTS, name));
    if (unknown !== undefined) {
      throw new UsageError(`--only ${unknown} is not a part; there is ${Object.keys(PARTS).join(", ")}`);
    }
    const quick = options.has("quick");
    const defaults = quick ? QUICK : DEFAULTS;
    const context: NnContext = {
      rounds: options.whole("rounds", { from: 1, to: 1000 }) ?? defaults.rounds,
      steps: options.whole("steps", { from: 1, to: 1000 }) ?? defaults.steps,
      ...{ quick, folder, note },
    };
    const results: NnResult[] = [];
    for (const [name, measure] of Object.entries(PARTS)) {
      if (wanted.length === 0 || wanted.includes(name)) results.push(await measure(context));
    }
    return {
      report: {
        title: "Models on one engine",
        sections: results.flatMap(({ sections }) => sections),
        figures: Object.assign({}, ...results.map(({ figures }) => figures)),
      },
      versions: [...new Set(results.flatMap(({ versions = [] }) => versions))],
    };
  },
};
