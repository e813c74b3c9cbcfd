/** Opens a task by the kind of its model. */

import type { Files } from "../../runtime/platform/files.ts";
import { type GptSpec, openGpt } from "./gpt.ts";
import type { Task, TaskOptions } from "./task.ts";

/** What a model is made from: plain settings, as a command line or a plan gives them. */
export type ModelSpec = GptSpec;

/** @throws errors of one line for people: FileError, CorpusError, GraphError, WeightsError. */
export function openTask(spec: ModelSpec, options: TaskOptions, files: Files): Promise<Task> {
  switch (spec.kind) {
    case "gpt":
      return openGpt(spec, options, files);
  }
}
