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

export interface Model {
  readonly name: string;
  /**
   * The forward graph of one micro-batch, as it is in training. Its first output is the loss, an f32 scalar: the mean
   * over the micro-batch. The other outputs are the new values of the running statistics.
   */
  readonly graph: Graph;
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
  /** The value that the model predicts with (logits), and the loss is made from; null where that is not known. */
  readonly prediction: string | null;
  /** The initial value of a parameter, a frozen value or a statistic. The tensor is borrowed. */
  initial(name: string, seed: number): Tensor | Promise<Tensor>;
}

/**
 * Data inputs that a stage fills in by itself, i64 scalars: they make randomness inside the graph (dropout) a pure
 * function of where in the run it is drawn, so that it replays.
 */
export const COUNTERS = ["troupe.seed", "troupe.step", "troupe.micro_batch"] as const;

/** Inputs that stages hold between steps: parameters, frozen values and statistics, in the graph's order. */
export function heldInputs({ graph, parameters, frozen, statistics }: Model): ValueInfo[] {
  const held = new Set([...parameters, ...frozen, ...Object.keys(statistics)]);
  return graph.inputs.filter(({ name }) => held.has(name));
}

/** Inputs that come with every micro-batch from the data source. */
export function dataInputs(model: Model): ValueInfo[] {
  const held = new Set(heldInputs(model).map(({ name }) => name));
  const own: readonly string[] = COUNTERS;
  return model.graph.inputs.filter(({ name }) => !held.has(name) && !own.includes(name));
}
