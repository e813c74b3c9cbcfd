/**
 * What of a model is trained: all of it, all but what is frozen, or adapters beside it (LoRA); and in how many bytes
 * what is not trained is held. For models whose weights come from somewhere.
 */

import { freeze } from "../../nn/finetune/freeze.ts";
import { type LoraModel, lora } from "../../nn/finetune/lora.ts";
import { type Storage, storeFrozen } from "../../nn/finetune/storage.ts";
import type { Model } from "../../nn/model.ts";
import type { Config } from "../checkpoint-state.ts";

export const STORAGES = ["f32", "bf16", "f16", "int8"] as const satisfies readonly (Storage | "f32")[];

export interface Tuning {
  /** Adapters, beside the matrices that patterns pick, or those that are usual; null trains the weights themselves. */
  readonly lora: {
    readonly rank: number;
    readonly alpha: number;
    readonly targets: readonly string[] | null;
  } | null;
  /** Patterns of parameters that stay as they are. */
  readonly freeze: readonly string[];
  /** How frozen matrices are held. */
  readonly storage: (typeof STORAGES)[number];
}

/**
 * @param usual patterns of the matrices that get adapters when none are named.
 * @throws GraphError for a pattern that picks nothing.
 */
export function tuned(
  model: Model,
  { lora: adapters, freeze: frozen, storage }: Tuning,
  usual: readonly string[],
): Model | LoraModel {
  const trained = adapters
    ? lora(model, { ...adapters, targets: adapters.targets ?? usual })
    : frozen.length > 0
      ? freeze(model, frozen)
      : model;
  return storage === "f32" ? trained : storeFrozen(trained, storage);
}

export const isAdapted = (model: Model | LoraModel): model is LoraModel => "adapters" in model;

/** As a checkpoint holds it. */
export function tuningSettings({ lora: adapters, freeze: frozen, storage }: Tuning): Config {
  return {
    ...(adapters && { rank: adapters.rank, alpha: adapters.alpha }),
    ...(adapters?.targets && { targets: adapters.targets.join(",") }),
    ...(frozen.length > 0 && { freeze: frozen.join(",") }),
    ...(storage !== "f32" && { storage }),
  };
}
