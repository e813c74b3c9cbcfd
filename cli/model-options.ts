/**
 * `--model` and the settings of each kind of model: which kind a name, a file or a folder is, and which options are
 * for it. What is given for another kind is a mistake that is told, not passed over.
 */

import type { Checkpoint } from "../actors/checkpoint.ts";
import type { ModelSpec } from "../actors/tasks/open.ts";
import { AUGMENTATIONS } from "../actors/tasks/pictures.ts";
import { STORAGES, type Tuning } from "../actors/tasks/tuning.ts";
import { LOSSES } from "../nn/import/loss.ts";
import { isModelName, MODEL_NAMES, type ModelSettings } from "../nn/models/catalogue.ts";
import { DEFAULT_GPT, type GptConfig } from "../nn/models/gpt.ts";
import { MLP_ACTIVATIONS } from "../nn/models/mlp.ts";
import type { Files } from "../runtime/platform/files.ts";
import { UsageError } from "./command.ts";
import { nearest } from "./nearest.ts";
import { list, type Options, type OptionTable } from "./options.ts";

type Kind = ModelSpec["kind"];

const GPT = DEFAULT_GPT;
/** Hu et al., 2021, find it enough. */
const LORA_RANK = 8;
const ACTIVATIONS = Object.keys(MLP_ACTIVATIONS) as (keyof typeof MLP_ACTIVATIONS)[];

/** What people call the kinds. */
const KINDS: Readonly<Record<Kind, string>> = {
  gpt: "gpt",
  classifier: "classifiers",
  huggingface: "Hugging Face folders",
  onnx: ".onnx files",
};

export const MODEL_OPTIONS: OptionTable = {
  model: {
    value: "name",
    help: `gpt (the default), ${MODEL_NAMES.join(", ")}, a Hugging Face folder or an .onnx file`,
  },
  layers: { value: "N", help: `blocks of gpt (default: ${GPT.layers}) or vit` },
  width: {
    value: "N",
    help: `width of gpt (default: ${GPT.width}) or vit, first channels of resnet and vgg`,
  },
  heads: { value: "N", help: `attention heads of gpt (default: ${GPT.heads}) or vit; they divide the width` },
  context: {
    value: "N",
    help: `bytes or tokens the model sees at once (default: ${GPT.context} for gpt, else 128)`,
  },
  "input-size": {
    value: "N",
    help: "side that pictures are brought to (default: their own, 224 for folders of files)",
  },
  patch: { value: "N", help: "side of a vit's patches" },
  hidden: { value: "sizes", help: "widths of an mlp's hidden layers, such as 256,128" },
  activation: { value: "name", help: `what an mlp has between its layers: ${ACTIVATIONS.join(", ")}` },
  dropout: { value: "share", help: "share of hidden units that a vgg drops in training" },
  augment: {
    value: "name",
    help: `how pictures vary in training: ${AUGMENTATIONS.join(", ")} (default: none)`,
  },
  label: { value: "column", help: "the column of a table that holds the classes (default: the last)" },
  lora: { help: "train small adapters beside the weights, which stay as they are" },
  "lora-rank": { value: "N", help: `rank of the adapters (default: ${LORA_RANK})` },
  "lora-alpha": { value: "number", help: "their scale is alpha / rank (default: twice the rank)" },
  "lora-targets": {
    value: "names",
    help: "matrices with adapters, apart by commas, * for any characters (default: those of all layers)",
  },
  freeze: { value: "names", help: "parameters that stay as they are, such as embed_tokens,layers.0" },
  storage: { value: "type", help: `how frozen matrices are held: ${STORAGES.join(", ")} (default: f32)` },
  loss: {
    value: "name",
    help: `what an .onnx file minimises: ${LOSSES.join(", ")}, or an output of its own`,
  },
};

/** Kinds that each option is for. */
const FOR: Readonly<Record<string, readonly Kind[]>> = {
  layers: ["gpt", "classifier"],
  width: ["gpt", "classifier"],
  heads: ["gpt", "classifier"],
  context: ["gpt", "huggingface", "onnx"],
  "input-size": ["classifier"],
  patch: ["classifier"],
  hidden: ["classifier"],
  activation: ["classifier"],
  dropout: ["classifier"],
  augment: ["classifier", "onnx"],
  label: ["classifier", "onnx"],
  loss: ["onnx"],
  lora: ["huggingface", "onnx"],
  "lora-rank": ["huggingface", "onnx"],
  "lora-alpha": ["huggingface", "onnx"],
  "lora-targets": ["huggingface", "onnx"],
  freeze: ["huggingface", "onnx"],
  storage: ["huggingface", "onnx"],
};

/**
 * The model that is asked for, or that the checkpoint a run goes on from was made with.
 * @throws UsageError in one line.
 */
export async function modelSpec(
  options: Options,
  files: Files,
  before: Checkpoint | null,
): Promise<ModelSpec> {
  const earlier = before?.model;
  /** How the data was read. */
  const reading = before?.training;
  const text = options.text("model") ?? modelOf(earlier);
  const kind = await kindOf(text, files);
  for (const [option, kinds] of Object.entries(FOR)) {
    if (options.has(option) && !kinds.includes(kind)) {
      const which = list(kinds.map((known) => KINDS[known]));
      throw new UsageError(`--${option} is for ${which}; --model ${text} has no such setting`);
    }
  }
  const size = (name: string, to: number) => options.whole(name, { from: 1, to }) ?? number(earlier?.[name]);
  const word = (name: string) => options.text(name) ?? textOf(earlier?.[name]);
  const context = () => size("context", 2 ** 12);
  switch (kind) {
    case "gpt":
      return { kind, ...gptConfig(size) };
    case "huggingface":
      return { kind, from: withoutSlash(text), context: context() ?? null, tuning: tuning() };
    case "onnx":
      return {
        ...{ kind, from: text, loss: word("loss") ?? null, context: context() ?? 128 },
        ...{ label: label(), augment: augmentation(), tuning: tuning() },
      };
    case "classifier": {
      if (!isModelName(text)) throw new UsageError(unknown(text));
      const settings: Mutable<ModelSettings> = {};
      for (const name of ["width", "layers", "heads", "patch"] as const) {
        const value = size(name, 2 ** 16);
        if (value !== undefined) settings[name] = value;
      }
      const dropout = options.number("dropout", { from: 0, to: 0.99 }) ?? number(earlier?.dropout);
      if (dropout !== undefined) settings.dropout = dropout;
      const hidden = word("hidden");
      if (hidden !== undefined) settings.hidden = widths(hidden);
      const activation = options.choice("activation", ACTIVATIONS) ?? textOf(earlier?.activation);
      if (activation !== undefined) settings.activation = activation as (typeof ACTIVATIONS)[number];
      const inputSize = size("input-size", 4096) ?? number(reading?.inputSize) ?? null;
      return { kind, name: text, settings, inputSize, augment: augmentation(), label: label() };
    }
  }

  function label(): string | null {
    return options.text("label") ?? textOf(reading?.label) ?? null;
  }

  function augmentation(): (typeof AUGMENTATIONS)[number] {
    const given = options.choice("augment", AUGMENTATIONS) ?? textOf(reading?.augment);
    return (given as (typeof AUGMENTATIONS)[number] | undefined) ?? "none";
  }

  function tuning(): Tuning {
    const rank = size("lora-rank", 2 ** 16) ?? number(earlier?.rank);
    const adapters = options.has("lora") || rank !== undefined;
    for (const option of ["lora-alpha", "lora-targets"]) {
      if (options.has(option) && !adapters)
        throw new UsageError(`--${option} is for --lora, which is not given`);
    }
    if (adapters && options.has("freeze")) {
      throw new UsageError("--lora freezes all weights as it is: leave --freeze out");
    }
    const used = rank ?? LORA_RANK;
    const alpha = options.number("lora-alpha", { from: 0 }) ?? number(earlier?.alpha) ?? 2 * used;
    const targets = options.text("lora-targets") ?? textOf(earlier?.targets);
    const frozen = word("freeze");
    const storage = options.choice("storage", STORAGES) ?? textOf(earlier?.storage) ?? "f32";
    return {
      lora: adapters ? { rank: used, alpha, targets: targets ? names(targets) : null } : null,
      freeze: frozen === undefined ? [] : names(frozen),
      storage: storage as Tuning["storage"],
    };
  }
}

const names = (text: string) =>
  text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What `--model` was, by a checkpoint's description of its model; those of old name no kind. */
function modelOf(model: Checkpoint["model"] | undefined): string {
  return textOf(model?.from) ?? textOf(model?.name) ?? "gpt";
}

async function kindOf(text: string, files: Files): Promise<Kind> {
  if (text === "gpt") return "gpt";
  if (isModelName(text)) return "classifier";
  if (text.endsWith(".onnx")) {
    if (await files.isFile(text)) return "onnx";
    throw new UsageError(`--model ${text}: there is no such file`);
  }
  if (await files.isFolder(text)) {
    if (await files.isFile(`${withoutSlash(text)}/config.json`)) return "huggingface";
    throw new UsageError(`--model ${text}: the folder has no config.json, it is no Hugging Face model`);
  }
  throw new UsageError(unknown(text));
}

function unknown(text: string): string {
  const names = ["gpt", ...MODEL_NAMES];
  return (
    `--model ${text} is not available; the nearest name is ${nearest(text, names)}, and an .onnx file or a Hugging ` +
    "Face folder is given by its path"
  );
}

function gptConfig(size: (name: string, to: number) => number | undefined): GptConfig {
  const model: GptConfig = {
    layers: size("layers", 1000) ?? GPT.layers,
    width: size("width", 2 ** 16) ?? GPT.width,
    heads: size("heads", 2 ** 12) ?? GPT.heads,
    // The mask of attention is a constant of context² elements in every block's graph.
    context: size("context", 2 ** 12) ?? GPT.context,
    vocabulary: GPT.vocabulary,
  };
  const { width, heads } = model;
  if (width % heads !== 0) {
    throw new UsageError(
      `a width of ${width} does not divide among ${heads} heads: use a width of ${neighbours(width, heads)}`,
    );
  }
  return model;
}

function widths(text: string): number[] {
  const sizes = text.split(",").map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : 0));
  if (sizes.every((size) => size > 0)) return sizes;
  throw new UsageError(`--hidden ${text}: expected whole numbers apart by commas, such as 256,128`);
}

/** The nearest numbers that `divisor` divides, for people. */
export function neighbours(value: number, divisor: number): string {
  const below = Math.floor(value / divisor) * divisor;
  return below === 0 ? `${divisor}` : `${below} or ${below + divisor}`;
}

export const withoutSlash = (path: string) => path.replace(/(?<=.)\/+$/, "");

const number = (value: unknown) => (typeof value === "number" ? value : undefined);
const textOf = (value: unknown) => (typeof value === "string" ? value : undefined);
