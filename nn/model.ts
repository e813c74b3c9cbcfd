/**
 * A model that can be trained: a forward graph that ends in a loss, and what its inputs are. Whoever makes models
 * (builders, importers, transformations such as LoRA) gives one of these, and whoever trains asks for nothing else.
 *
 * A graph's inputs are of four kinds: parameters, which are trained; frozen values, which are held and not trained
 * (weights of a frozen layer, quantised weights and their scales); running statistics, which the forward pass
 * itself replaces; and data, which is everything else: a sample's tensors, or one of the stage's own `COUNTERS`.
 */

import type { Tensor } from "../protocols/tensor.ts";
import type { Graph, ValueInfo } from "./onnx/graph.ts";

/** What a graph's inputs are, as plain data that can be sent. Inputs that are not named here are data. */
export interface Roles {
  /** Inputs that are trained, in the model's order. */
  readonly parameters: readonly string[];
  /** Inputs that are held and not trained. */
  readonly frozen: readonly string[];
  /** Running statistics: from each input to the output that replaces it after a micro-batch. */
  readonly statistics: Readonly<Record<string, string>>;
  /**
   * Parameters that are one: from the name of each further use to the parameter it is a use of. Both are inputs of the
   * graph and in `parameters`; they start equal and are updated by the sum of their gradients, so they stay equal.
   */
  readonly ties: Readonly<Record<string, string>>;
}

/** A forward graph and what its inputs are: all that cutting and differentiating ask of a model. */
export interface Trainable extends Roles {
  /**
   * The forward graph of one micro-batch, as it is in training. Its first output is the loss, an f32 scalar: the mean
   * over the micro-batch. The other outputs are the new values of the running statistics.
   */
  readonly graph: Graph;
}

export interface Model extends Trainable {
  readonly name: string;
  /** The value that the model predicts with (logits), and the loss is made from; null where that is not known. */
  readonly prediction: string | null;
  /** The initial value of a parameter, a frozen value or a statistic. The tensor is borrowed. */
  initial(name: string, seed: number): Tensor | Promise<Tensor>;
}

/** Roles for a graph that has parameters and data, and nothing else. */
export function rolesOf(parameters: Iterable<string>): Roles {
  return { parameters: [...parameters], frozen: [], statistics: {}, ties: {} };
}

/** All that `roles` says about those inputs and outputs that `graph`, a part of the model, has. */
export function rolesWithin({ parameters, frozen, statistics, ties }: Roles, graph: Graph): Roles {
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  const has = (name: string) => inputs.has(name);
  const still = new Set(frozen);
  return {
    parameters: parameters.filter(has),
    frozen: frozen.filter(has),
    statistics: Object.fromEntries(Object.entries(statistics).filter(([name]) => has(name))),
    // Those of other parts too: their gradients are wanted here. What is frozen has none.
    ties: Object.fromEntries(
      Object.entries(ties).filter(([use, owner]) => !still.has(use) && !still.has(owner)),
    ),
  };
}

/**
 * Data inputs that a stage fills in by itself, i64 scalars: they make randomness inside the graph (dropout) a pure
 * function of where in the run it is drawn, so that it replays.
 */
export const COUNTERS = ["troupe.seed", "troupe.step", "troupe.micro_batch"] as const;

/** Inputs that stages hold between steps: parameters, frozen values and statistics, in the graph's order. */
export function heldInputs({ graph, parameters, frozen, statistics }: Trainable): ValueInfo[] {
  const held = new Set([...parameters, ...frozen, ...Object.keys(statistics)]);
  return graph.inputs.filter(({ name }) => held.has(name));
}

/** Inputs that come with every micro-batch from the data source. */
export function dataInputs(model: Trainable): ValueInfo[] {
  const held = new Set(heldInputs(model).map(({ name }) => name));
  const own: readonly string[] = COUNTERS;
  return model.graph.inputs.filter(({ name }) => !held.has(name) && !own.includes(name));
}
