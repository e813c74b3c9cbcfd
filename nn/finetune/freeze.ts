/** Layers that stay as they are: their parameters become frozen values, and no gradient is computed for them. */

import type { Model } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { pick } from "./names.ts";

/**
 * The model with the picked parameters frozen; see `names.ts` for patterns. What is tied to one of them is frozen with it.
 * @throws GraphError for a pattern that picks nothing, and when nothing is left to train.
 */
export function freeze(model: Model, patterns: readonly string[]): Model {
  const picked = new Set(pick(model.parameters, patterns, "parameter"));
  for (const [use, owner] of Object.entries(model.ties)) {
    if (picked.has(use) || picked.has(owner)) picked.add(owner);
  }
  for (const [use, owner] of Object.entries(model.ties)) if (picked.has(owner)) picked.add(use);
  const frozen = frozenModel(model, picked);
  if (frozen.parameters.length === 0) {
    throw new GraphError(`every parameter of ${model.name} is frozen: nothing is left to train`);
  }
  return frozen;
}

/** The same model with these parameters frozen; the order of frozen values is the graph's. */
export function frozenModel(model: Model, names: ReadonlySet<string>): Model {
  const held = new Set([...model.frozen, ...names]);
  return {
    ...model,
    parameters: model.parameters.filter((name) => !names.has(name)),
    frozen: model.graph.inputs.map(({ name }) => name).filter((name) => held.has(name)),
    ties: Object.fromEntries(Object.entries(model.ties).filter(([use]) => !names.has(use))),
  };
}
