/** Opens a task by the kind of its model. */

import type { Files } from "../../runtime/platform/files.ts";
import { type GptSpec, openGpt } from "./gpt.ts";
import { type HuggingFaceSpec, openHuggingFace } from "./huggingface.ts";
import { type OnnxSpec, openOnnx } from "./onnx.ts";
import type { Task, TaskOptions } from "./task.ts";
import { openVision, type VisionSpec } from "./vision.ts";

/** What a model is made from: plain settings, as a command line or a plan gives them. */
export type ModelSpec = GptSpec | VisionSpec | HuggingFaceSpec | OnnxSpec;

/** @throws errors of one line for people: FileError, CorpusError, DataError, GraphError, WeightsError, HuggingFaceError. */
export function openTask(spec: ModelSpec, options: TaskOptions, files: Files): Promise<Task> {
  switch (spec.kind) {
    case "gpt":
      return openGpt(spec, options, files);
    case "classifier":
      return openVision(spec, options, files);
    case "huggingface":
      return openHuggingFace(spec, options, files);
    case "onnx":
      return openOnnx(spec, options, files);
  }
}
