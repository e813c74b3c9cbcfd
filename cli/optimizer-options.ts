/** `--optimizer` and its settings: what is given, what the run before had, and else what suits the kind of model. */

import type { Checkpoint } from "../actors/checkpoint.ts";
import type { ModelSpec } from "../actors/tasks/open.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { UsageError } from "./command.ts";
import type { Options, OptionTable } from "./options.ts";

const OPTIMIZERS = ["adamw", "sgd", "lion", "muon"] as const;
type Name = (typeof OPTIMIZERS)[number];
const DECAYS = ["cosine", "linear", "constant"] as const;
const ADAMW = DEFAULT_ADAMW;

/**
 * Peak learning rates that usually do, by optimiser: for models that begin at random, for weights that are trained
 * further, and for adapters beside weights that stay as they are.
 */
const RATES: Readonly<Record<Name, Readonly<Record<"new" | "tuned" | "adapted", number>>>> = {
  adamw: { new: 1e-3, tuned: 5e-5, adapted: 2e-4 },
  sgd: { new: 0.05, tuned: 1e-3, adapted: 0.01 },
  lion: { new: 2e-4, tuned: 1e-5, adapted: 5e-5 },
  muon: { new: 0.02, tuned: 2e-4, adapted: 1e-3 },
};

export const OPTIMIZER_OPTIONS: OptionTable = {
  optimizer: { value: "name", help: `${OPTIMIZERS.join(", ")} (default: adamw)` },
  lr: {
    value: "rate",
    help: `peak learning rate (default: ${ADAMW.learningRate} for gpt, else by model and optimizer)`,
  },
  warmup: { value: "N", help: `steps of linear warm-up (default: ${ADAMW.warmup})` },
  decay: {
    value: "name",
    help: `how the rate falls after the warm-up: ${DECAYS.join(", ")} (default: cosine)`,
  },
  "lr-floor": {
    value: "share",
    help: `learning rate at the end, as a share of the peak (default: ${ADAMW.floor})`,
  },
  "weight-decay": {
    value: "rate",
    help: `weight decay of matrices (default: ${ADAMW.weightDecay} for gpt, else 0.01)`,
  },
  beta1: { value: "share", help: `decay of the first moment (default: ${ADAMW.beta1})` },
  beta2: { value: "share", help: `decay of the second moment (default: ${ADAMW.beta2}; lion 0.99)` },
  momentum: { value: "share", help: "momentum of sgd (default: 0.9) and muon (default: 0.95)" },
  clip: { value: "norm", help: `largest norm of the gradients, 0 for any (default: ${ADAMW.clip})` },
};

/** Optimisers that each option is for; the others are for all. */
const FOR: Readonly<Record<string, readonly Name[]>> = {
  beta1: ["adamw", "lion", "muon"],
  beta2: ["adamw", "lion", "muon"],
  momentum: ["sgd", "muon"],
};

/** @throws UsageError in one line. */
export function optimizerOf(
  options: Options,
  before: Checkpoint | null,
  model: ModelSpec,
  steps: number,
): OptimizerConfig {
  const earlier = before?.training ?? {};
  const kind = options.choice("optimizer", OPTIMIZERS) ?? (earlier.kind as Name | undefined) ?? "adamw";
  if (before && kind !== (earlier.kind ?? "adamw")) {
    throw new UsageError(
      `the run before was trained with ${earlier.kind ?? "adamw"}, whose state ${kind} cannot use: leave --optimizer out`,
    );
  }
  for (const [option, kinds] of Object.entries(FOR)) {
    if (options.has(option) && !kinds.includes(kind)) {
      throw new UsageError(`--${option} is for ${kinds.join(", ")}; --optimizer ${kind} has no such setting`);
    }
  }
  const setting = (option: string, name: string, fallback: number, range: { from: number; to?: number }) => {
    const was = earlier[name];
    return options.number(option, range) ?? (typeof was === "number" ? was : fallback);
  };
  const gpt = model.kind === "gpt" && kind === "adamw";
  const decay = options.choice("decay", DECAYS) ?? (earlier.decay as (typeof DECAYS)[number] | undefined);
  const share = { from: 0, to: 0.9999999 };
  const common = {
    learningRate: setting("lr", "learningRate", gpt ? ADAMW.learningRate : RATES[kind][stateOf(model)], {
      from: 0,
    }),
    warmup: options.whole("warmup", { from: 0 }) ?? setting("warmup", "warmup", ADAMW.warmup, { from: 0 }),
    floor: setting("lr-floor", "floor", ADAMW.floor, { from: 0, to: 1 }),
    weightDecay: setting("weight-decay", "weightDecay", gpt ? ADAMW.weightDecay : 0.01, { from: 0 }),
    clip: setting("clip", "clip", ADAMW.clip, { from: 0 }),
    steps,
    ...(decay === undefined ? {} : { decay }),
  };
  const moments = (beta2: number) => ({
    beta1: setting("beta1", "beta1", ADAMW.beta1, share),
    beta2: setting("beta2", "beta2", beta2, share),
  });
  const epsilon = typeof earlier.epsilon === "number" ? earlier.epsilon : ADAMW.epsilon;
  const momentum = (fallback: number) => setting("momentum", "momentum", fallback, share);
  switch (kind) {
    case "adamw":
      return { ...common, ...moments(ADAMW.beta2), epsilon };
    case "sgd":
      return { kind, ...common, momentum: momentum(0.9), nesterov: false };
    case "lion":
      return { kind, ...common, ...moments(0.99) };
    case "muon":
      return { kind, ...common, ...moments(ADAMW.beta2), epsilon, momentum: momentum(0.95) };
  }
}

function stateOf(model: ModelSpec): "new" | "tuned" | "adapted" {
  if (model.kind !== "huggingface" && model.kind !== "onnx") return "new";
  if (model.tuning.lora) return "adapted";
  return model.kind === "huggingface" ? "tuned" : "new";
}
