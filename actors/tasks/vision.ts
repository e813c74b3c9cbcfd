/** A built-in model that learns classes, of pictures or of the rows of a table, by its name in the catalogue. */

import { exportModel } from "../../nn/import/export.ts";
import {
  inputSizeFor,
  learnsFrom,
  type ModelName,
  type ModelSettings,
  modelNamed,
  settingsOf,
} from "../../nn/models/catalogue.ts";
import type { Files } from "../../runtime/platform/files.ts";
import type { Config } from "../checkpoint-state.ts";
import { DataError } from "../data/error.ts";
import { ImageFeed } from "../data/images.ts";
import { readData } from "../data/read.ts";
import { TableFeed } from "../data/table.ts";
import { type AugmentationName, augmentationOf, FORMATS } from "./pictures.ts";
import type { Task, TaskOptions } from "./task.ts";

export interface VisionSpec {
  readonly kind: "classifier";
  readonly name: ModelName;
  readonly settings: ModelSettings;
  /** Side that pictures are brought to; null for their own. */
  readonly inputSize: number | null;
  readonly augment: AugmentationName;
  /** The label column of a table; null for the last. */
  readonly label: string | null;
}

/** Side that pictures of folders, which come in all sizes, are brought to when nothing else is asked for. */
const FOLDER_SIZE = 224;

/** @throws FileError, DataError, GraphError in one line for people. */
export async function openVision(spec: VisionSpec, options: TaskOptions, files: Files): Promise<Task> {
  const { name, settings, inputSize, augment, label } = spec;
  const { data: path, rows, microBatches, seed } = options;
  settingsOf(name, settings, inputSize ?? FOLDER_SIZE);
  const learns = learnsFrom(name);
  const wanted = learns.map((input) => (input === "features" ? ("table" as const) : input));
  if (path === null) {
    throw new DataError(
      "missing",
      name,
      `it learns from ${wanted.join(" or ")}: name a file or folder with --data`,
    );
  }
  const data = await readData(files, path, {
    ...{ wanted, formats: FORMATS, label },
    size: inputSize ?? FOLDER_SIZE,
  });
  if (data.kind === "text") throw new DataError("unsupported", path, `it is text; ${name} learns classes`);
  const side = data.kind === "images" ? (inputSize ?? data.size) : 0;
  const size = data.kind === "images" ? inputSizeFor(name, settings, side) : 0;
  const feed =
    data.kind === "images"
      ? new ImageFeed(data, { seed, rows, microBatches, size, augment: augmentationOf(augment, size) })
      : new TableFeed(data, { seed, rows, microBatches });
  const classes = data.classes.length;
  const [sample] = feed.values;
  const model = modelNamed(name, { ...settings, classes }, feed.values);
  const one = modelNamed(name, { ...settings, classes }, [{ ...sample!, shape: sample!.shape.with(0, 1) }]);
  const metadata = { classes: JSON.stringify(data.classes) };
  return {
    model,
    feed,
    description: {
      ...{ kind: "classifier", name, classes, sample: sample!.shape.slice(1).join("x") },
      ...flat(settingsOf(name, settings, size)),
    },
    source: { name: data.name, bytes: null },
    unit: { name: data.kind === "images" ? "images" : "samples", perMicroBatch: rows },
    lossUnit: "nats",
    // One sample in, logits [1, classes] out.
    inference: (values) => exportModel({ ...one, metadata }, values, seed),
  };
}

/** Settings as a checkpoint holds them. */
function flat(settings: ModelSettings): Config {
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key, Array.isArray(value) ? value.join(",") : value]),
  );
}
