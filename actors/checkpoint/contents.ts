/** What a run's checkpoints are of: which values, and what they say of the run besides. */

import type { Model } from "../../nn/model.ts";
import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import { type OptimizerConfig, stateNames } from "../../nn/optim/optimizer.ts";
import { outerStateNames } from "../../nn/optim/outer.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Checkpoint } from "../checkpoint.ts";
import type { Config } from "../checkpoint-state.ts";
import type { ModelSpec } from "../tasks/open.ts";
import type { Task } from "../tasks/task.ts";
import type { TrainOptions } from "../train.ts";
import type { SavedRun } from "./saver.ts";

/** What training changes, by name: parameters, each tied one once, and statistics; and the optimiser's state. */
export function changing({ graph, parameters, ties, statistics }: Model, optimizer: OptimizerConfig) {
  const own = new Set([
    ...parameters.filter((name) => !Object.hasOwn(ties, name)),
    ...Object.keys(statistics),
  ]);
  const values = graph.inputs.filter(({ name }) => own.has(name));
  const trained = values.filter(({ name }) => !Object.hasOwn(statistics, name));
  const state = trained.flatMap((parameter) =>
    stateNames(optimizer, parameter).map((name): ValueInfo => ({ ...parameter, name })),
  );
  return { parameters: values, optimizer: state };
}

/**
 * What a checkpoint has, by every name that a stage may hold it under: of tied parameters one is saved, and one that is on
 * another stage has as much of the optimiser's state as the one that it is tied to.
 */
export function checkpointValues(
  { parameters, optimizer: kept }: Pick<Checkpoint, "parameters" | "optimizer">,
  { graph, ties }: Pick<Model, "graph" | "ties">,
  optimizer: OptimizerConfig,
): Record<string, Tensor> {
  const values = Object.fromEntries([...parameters, ...kept]);
  for (const { name: use, shape } of graph.inputs) {
    const owner = ties[use];
    if (owner === undefined) continue;
    const names = (name: string) => [...stateNames(optimizer, { name, shape }), ...outerStateNames({ name })];
    const theirs = names(owner);
    for (const [i, own] of names(use).entries()) {
      const value = values[theirs[i]!];
      if (value) values[own] ??= value;
    }
  }
  return values;
}

export function contentsOf(
  { seed, data, model: spec, batch, microBatches, steps, optimizer, keepCheckpoints }: TrainOptions,
  { model, description, inference }: Task,
): Pick<SavedRun, "about" | "parameters" | "optimizer" | "onnx"> {
  const kept = changing(model, optimizer);
  const names = (infos: readonly ValueInfo[]) => infos.map(({ name }) => name);
  // Members that train on their own keep more, as long as they do; so does whoever scales the loss.
  const outer = kept.parameters.flatMap((parameter) => outerStateNames(parameter));
  const training = {
    ...{ ...optimizer, batch, microBatches, steps, ...(data === null ? {} : { data }) },
    ...(keepCheckpoints === undefined ? {} : { keepCheckpoints }),
    ...readingSettings(spec),
  };
  return {
    about: (step) => ({ step, seed, model: description, training }),
    parameters: new Set(names(kept.parameters)),
    optimizer: new Set([...names(kept.optimizer), ...outer, LOSS_SCALE]),
    onnx: async (parameters) => (await inference?.(parameters)) ?? null,
  };
}

/** How data is read where that can be chosen, so that a run that is resumed goes on learning from the same. */
function readingSettings(model: ModelSpec): Config {
  if (model.kind !== "classifier" && model.kind !== "onnx") return {};
  const { augment, label } = model;
  const inputSize = model.kind === "classifier" ? model.inputSize : null;
  return {
    ...(augment !== "none" && { augment }),
    ...(label !== null && { label }),
    ...(inputSize !== null && { inputSize }),
  };
}
