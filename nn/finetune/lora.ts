/**
 * Low-rank adaptation (Hu et al., "LoRA", 2021): a picked matrix W stays as it is, and beside x·W the model computes
 * (alpha / rank)·x·Aᵀ·Bᵀ with A [rank, in] and B [out, rank], which are all that is trained.
 *
 * B begins as zero, so that the model begins as what it was, to the bit; A begins uniform in ±1/√in, as in PEFT. Both
 * have PEFT's names and layout: `<module>.lora_A.weight` and `<module>.lora_B.weight`. The sum is written as the C of a
 * Gemm, so that it costs no pass of its own. No gradient is computed for the base, and none below its lowest adapter.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { uniformTensor } from "../models/init.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { GraphError, type Node } from "../onnx/graph.ts";
import { describe } from "../onnx/shapes.ts";
import { frozenModel } from "./freeze.ts";
import { moduleOf, pick } from "./names.ts";
import { transposedProduct, type WeightProduct, weightProducts } from "./products.ts";

export interface LoraOptions {
  /** Which matrices are adapted: patterns of `names.ts`, such as `q_proj`, `c_attn`, `layers.0` or `*`. */
  readonly targets: readonly string[];
  /** Rows of A, columns of B. */
  readonly rank: number;
  /** The adapter's product is scaled by alpha / rank. */
  readonly alpha: number;
  /** Share of the adapter's inputs that is dropped in training; none when left out. */
  readonly dropout?: number;
}

/** One adapted matrix. */
export interface LoraAdapter {
  readonly weight: string;
  /** Names of its two parameters. */
  readonly a: string;
  readonly b: string;
  readonly from: number;
  readonly to: number;
  /** The weight is kept [out, in], as PyTorch's Linear keeps it; else [in, out]. */
  readonly transposed: boolean;
}

export interface LoraModel extends Model {
  /** The model that is adapted, as it was. */
  readonly base: Model;
  readonly options: LoraOptions;
  readonly adapters: readonly LoraAdapter[];
}

/**
 * The model with adapters beside the picked matrices; everything else is frozen.
 * @throws GraphError for a rank or a dropout that is none, a pattern that picks no matrix the model multiplies by, and a
 *   product of another form than x·W.
 */
export function lora(model: Model, options: LoraOptions): LoraModel {
  const { targets, rank, alpha, dropout = 0 } = options;
  if (!Number.isSafeInteger(rank) || rank < 1) throw new GraphError(`a LoRA rank is 1 or more, not ${rank}`);
  if (!Number.isFinite(alpha)) throw new GraphError(`a LoRA alpha is a number, not ${alpha}`);
  if (!(dropout >= 0 && dropout < 1))
    throw new GraphError(`a LoRA dropout is at least 0 and below 1, not ${dropout}`);
  const held = new Set([...model.parameters, ...model.frozen]);
  const matrices = new Set(
    model.graph.inputs
      .filter(({ name, shape }) => held.has(name) && shape.length === 2)
      .map(({ name }) => name),
  );
  const { products, others } = weightProducts(model.graph, matrices);
  const names = new Set([...products.map(({ weight }) => weight), ...others.keys()]);
  const picked = new Set(pick([...names], targets, "matrix that the model multiplies by"));
  for (const [weight, node] of others) {
    if (!picked.has(weight)) continue;
    throw new GraphError(
      `${describe(node)}: only products x·W can be adapted, leave ${weight} out of the targets`,
    );
  }

  const adapters = new Map<string, LoraAdapter>();
  const chosen = new Map<Node, WeightProduct>();
  for (const product of products) {
    const { weight, from, to, transposed, node } = product;
    if (!picked.has(weight)) continue;
    const other = adapters.get(weight);
    if (other && other.transposed !== transposed) {
      throw new GraphError(`${weight} is used both as it is and transposed: one adapter cannot serve both`);
    }
    const module = moduleOf(weight);
    const pair = { a: `${module}.lora_A.weight`, b: `${module}.lora_B.weight` };
    adapters.set(weight, { weight, ...pair, from, to, transposed });
    chosen.set(node, product);
  }

  const b = new GraphBuilder(model.graph.name);
  for (const { name, dtype, shape } of model.graph.inputs) {
    b.input(name, dtype, shape);
    const adapter = adapters.get(name);
    if (adapter) {
      b.input(adapter.a, "f32", [rank, adapter.from]);
      b.input(adapter.b, "f32", [adapter.to, rank]);
    }
  }
  for (const [name, tensor] of model.graph.initializers) b.constant(name, tensor);
  b.reserve(model.graph.nodes.flatMap(({ outputs }) => outputs));
  for (const node of model.graph.nodes) {
    const product = chosen.get(node);
    if (product) adapt(b, product, adapters.get(product.weight)!, alpha / rank, dropout);
    else b.append(node);
  }
  for (const { name } of model.graph.outputs) b.output(name);

  const list = [...adapters.values()];
  const frozen = frozenModel({ ...model, graph: b.build() }, new Set(model.parameters));
  return {
    ...frozen,
    parameters: list.flatMap((adapter) => [adapter.a, adapter.b]),
    base: model,
    options,
    adapters: list,
    initial: (name, seed) => {
      const adapter = list.find((one) => one.a === name || one.b === name);
      if (!adapter) return model.initial(name, seed);
      if (name === adapter.b) return Tensor.zeros("f32", [adapter.to, rank]);
      return uniformTensor(seed, name, [rank, adapter.from], 1 / Math.sqrt(3 * adapter.from));
    },
  };
}

/** Writes the product with its adapter; the sum has the product's name. */
function adapt(
  b: GraphBuilder,
  { node, from, to, alpha }: WeightProduct,
  adapter: LoraAdapter,
  scale: number,
  dropout: number,
): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const base = b.fresh(`${y}.base`);
  b.append({ ...node, outputs: [base] });
  const shape = b.shape(base);
  const rows = (value: string, width: number) =>
    shape.length === 2 ? value : b.op("Reshape", [value, b.ints([-1, width])]);
  let input = rows(x, from);
  if (dropout > 0) {
    const training = b.constant("const.true", new Tensor("bool", [], Uint8Array.of(1)));
    input = b.op("Dropout", [input, b.scalar(Math.fround(dropout)), training]);
  }
  const low = b.fresh(`${y}.low`);
  b.append(transposedProduct(input, adapter.a, low));
  const flat = shape.length === 2 ? y : b.fresh(`${y}.rows`);
  b.append(transposedProduct(low, adapter.b, flat, alpha * scale, rows(base, to)));
  if (flat !== y) b.op("Reshape", [flat, b.ints(shape)], {}, y);
}
