/**
 * Any `.onnx` file, trained on what its inputs take: images for [rows, channels, side, side], rows of a table (or
 * images, row by row) for [rows, features], bytes of text for integers [rows, tokens].
 */

import { mergeLora } from "../../nn/finetune/merge.ts";
import { exportModel } from "../../nn/import/export.ts";
import { importModel } from "../../nn/import/import.ts";
import { dataInputs } from "../../nn/model.ts";
import { GraphError, type ValueInfo } from "../../nn/onnx/graph.ts";
import { typeText } from "../../nn/onnx/shapes.ts";
import { elements } from "../../protocols/tensor.ts";
import type { Files } from "../../runtime/platform/files.ts";
import { readDefaultText, splitText } from "../data/corpus.ts";
import { DataError } from "../data/error.ts";
import type { Feed } from "../data/feed.ts";
import { fitted } from "../data/fitted.ts";
import { ImageFeed } from "../data/images.ts";
import { numericTargets } from "../data/numeric.ts";
import type { ImageData } from "../data/picture.ts";
import { type Data, readData } from "../data/read.ts";
import { TableFeed } from "../data/table.ts";
import { TextFeed } from "../data/text.ts";
import { type AugmentationName, augmentationOf, FORMATS } from "./pictures.ts";
import type { Task, TaskOptions } from "./task.ts";
import { isAdapted, type Tuning, tuned, tuningSettings } from "./tuning.ts";

export interface OnnxSpec {
  readonly kind: "onnx";
  /** The file. */
  readonly from: string;
  /** A loss to attach, or the output that is one; null for cross-entropy where the file has no loss of its own. */
  readonly loss: string | null;
  /** Size of symbolic dimensions other than the rows: tokens of a sequence. */
  readonly context: number;
  /** The label column of a table; null for the last. */
  readonly label: string | null;
  readonly augment: AugmentationName;
  readonly tuning: Tuning;
}

/** @throws FileError, DataError, GraphError in one line for people. */
export async function openOnnx(spec: OnnxSpec, options: TaskOptions, files: Files): Promise<Task> {
  const { from, loss, context } = spec;
  const folder = from.includes("/") ? from.slice(0, from.lastIndexOf("/")) : ".";
  const imported = await importModel(await files.read(from), {
    rows: options.rows,
    others: context,
    external: async (location, offset, length) => {
      const path = `${folder}/${location}`;
      const [home, place] = [await files.realPath(folder || "/"), await files.realPath(path)];
      if (!place.startsWith(home === "/" ? home : `${home}/`))
        throw new GraphError("a link leads out of its folder");
      return files.readRange(path, offset, offset + length);
    },
    loss: loss ?? "cross-entropy",
  });
  const model = tuned(imported, spec.tuning, ["*"]);
  const inputs = dataInputs(model);
  const targets = inputs.find(({ name, shape }) => name === "targets" || shape.length <= 1);
  const [sample, ...others] = inputs.filter((input) => input !== targets);
  if (!sample || !targets || others.length > 0) {
    const list = inputs.map((input) => `${input.name} ${typeText(input)}`).join(", ");
    throw new GraphError(`${from}: one input for samples and one for targets are fed, it has ${list}`);
  }
  if (sample.shape[0] !== options.rows) {
    throw new GraphError(
      `${from}: its ${sample.name} has ${sample.shape[0]} rows, a micro-batch of this run has ${options.rows}: use a ` +
        `--batch of ${sample.shape[0]! * options.microBatches}, or export it with a symbolic first dimension`,
    );
  }
  const found = await feedFor(spec, sample, options, files);
  const { name, bytes } = found;
  const predicted = imported.inference.outputs.find((output) => output.name === imported.prediction);
  const feed = predicted ? compared(found, predicted, targets, spec) : found.feed;
  const [, classes] = feed.values as readonly [ValueInfo, ValueInfo];
  if (targets.dtype !== classes.dtype || elements(targets.shape) !== elements(classes.shape)) {
    throw new GraphError(
      `${from}: its loss takes targets ${typeText(targets)}, the data gives classes, ${typeText(classes)}: cross-entropy ` +
        "is for these",
    );
  }
  const text = sample.dtype === "i64";
  return {
    model,
    feed: fitted(
      feed,
      Object.fromEntries(feed.values.map((value, i) => [value.name, i === 0 ? sample : targets])),
    ),
    description: {
      kind: "onnx",
      from,
      context,
      ...(loss !== null && { loss }),
      ...tuningSettings(spec.tuning),
    },
    source: { name, bytes },
    unit: {
      name: text ? "tokens" : sample.shape.length === 4 ? "images" : "samples",
      perMicroBatch: text ? sample.shape[0]! * sample.shape[1]! : sample.shape[0]!,
    },
    lossUnit: text ? "nats per byte" : (loss ?? "cross-entropy") === "cross-entropy" ? "nats" : loss!,
    inference: async (trained) => {
      const values = isAdapted(model) ? await mergeLora(model, trained, options.seed) : trained;
      return exportModel(imported, values, options.seed);
    },
  };
}

/**
 * The feed with targets that the loss can compare with what the model predicts.
 * @throws DataError when the model cannot tell the classes of the data apart.
 */
function compared(
  { feed, name, classes }: FoundFeed,
  predicted: ValueInfo,
  targets: ValueInfo,
  { from, loss }: OnnxSpec,
): Feed {
  const { shape } = predicted;
  const size = shape.length === 3 ? shape[2]! : (shape[1] ?? 1);
  if (targets.dtype === "f32") {
    const numeric = numericTargets(feed, shape, classes);
    if (numeric) return numeric;
    throw new DataError(
      "unsupported",
      name,
      `it has ${classes} classes; with --loss ${loss} an output of one number for each class is needed, or one in all ` +
        `for two, and ${from} gives ${predicted.name} ${typeText(predicted)}`,
    );
  }
  if (size >= classes) return feed;
  throw new DataError(
    "unsupported",
    name,
    `it has ${classes} classes, and ${from} tells ${size} apart, by ${predicted.name} ${typeText(predicted)}: export it ` +
      "with as many as the data has",
  );
}

interface FoundFeed {
  /** Its first value is the samples', its second the targets'. */
  readonly feed: Feed;
  readonly name: string;
  readonly bytes: number | null;
  /** Targets are below it. */
  readonly classes: number;
}

async function feedFor(
  { from, label, augment }: OnnxSpec,
  sample: ValueInfo,
  { data, rows, microBatches, seed }: TaskOptions,
  files: Files,
): Promise<FoundFeed> {
  const { dtype, shape } = sample;
  if (dtype === "i64" && shape.length === 2) {
    const context = shape[1]!;
    const text = data === null ? await readDefaultText(files) : textOf(await read("text"));
    const feed = new TextFeed(splitText(text, context), { seed, context, rows, batchMajor: true });
    const classes = text.bytes.reduce((most, byte) => Math.max(most, byte), 0) + 1;
    return { feed, name: text.name, bytes: text.bytes.length, classes };
  }
  const isImages = dtype === "f32" && shape.length === 4 && shape[2] === shape[3];
  if (!isImages && !(dtype === "f32" && shape.length === 2)) {
    throw new GraphError(
      `${from}: its input ${sample.name} is ${typeText(sample)}: f32 [rows, channels, side, side], f32 [rows, features] ` +
        "and i64 [rows, tokens] can be fed",
    );
  }
  if (data === null) throw new DataError("missing", from, "it needs data: name a file or folder with --data");
  const found = isImages ? await read("images") : await read("table", "images");
  const bytes = null;
  if (found.kind === "table") {
    const feed = new TableFeed(found, { seed, rows, microBatches });
    return { feed, name: found.name, bytes, classes: found.classes.length };
  }
  const images = found as ImageData;
  const size = isImages ? shape[2]! : Math.round(Math.sqrt(shape[1]! / images.channels));
  const [wanted, came] = [shape.slice(1), [images.channels, size, size]];
  if (isImages ? `${wanted}` !== `${came}` : wanted[0] !== images.channels * size * size) {
    throw new DataError(
      "unsupported",
      data,
      `it holds ${images.name}, ${images.channels} channels each; the model takes [${wanted}]`,
    );
  }
  const feed = new ImageFeed(images, {
    seed,
    rows,
    microBatches,
    size,
    augment: augmentationOf(augment, size),
  });
  return { feed, name: images.name, bytes, classes: images.classes.length };

  function read(...wanted: Data["kind"][]): Promise<Data> {
    return readData(files, data!, { wanted, formats: FORMATS, size: shape.at(-1)!, label });
  }
}

function textOf(data: Data) {
  if (data.kind !== "text") throw new TypeError(`${data.name} is no text`);
  return data.corpus;
}
