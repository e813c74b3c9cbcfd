/**
 * Which of a file's constants are parameters. ONNX does not say: weights, running statistics, masks, position tables
 * and the 2 of a square are all initializers. What they are is told by how they are used, and, where that is not
 * enough, by their name and their values:
 *
 * - A float tensor that is a matrix of a product, a kernel of a convolution, a table that is looked up, or a bias or
 *   scale of one of these or of a normalisation, is a parameter.
 * - One that is added, multiplied or joined element by element is a parameter when it is a vector along any one axis (a
 *   bias written as an addition) that does not just prepare a data input, or when it has a name that a person gave and
 *   is neither a mask (some values are −10⁴ or less) nor a table of factors (a product over more than one axis: rotary
 *   cosines).
 * - Scalars, integers, running statistics, frequencies that positions are multiplied with for sines and cosines, and what
 *   is named like a buffer (`inv_freq`, `attn_mask`, …) are constants.
 *
 * Whoever knows better names parameters or frozen values by patterns.
 */

import { elements, type Tensor } from "../../protocols/tensor.ts";
import { GraphError, type Node } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import type { Untyped } from "../passes/fold.ts";

export interface RoleOptions {
  /** Names of all parameters, `*` standing for any characters; left out, they are recognised. */
  readonly parameters?: readonly string[];
  /** Names of those that are held and not trained. */
  readonly frozen?: readonly string[];
}

export interface Recognised {
  readonly parameters: readonly string[];
  readonly frozen: readonly string[];
}

/** "input": added to or multiplied with a data input as it comes. */
type Use = "weight" | "added" | "factor" | "joined" | "constant" | "input";

/** Inputs of an operator that are weights when they are initializers. */
const WEIGHTS: Readonly<Record<string, readonly number[]>> = {
  MatMul: [0, 1],
  Gemm: [0, 1, 2],
  FusedMatMul: [0, 1],
  Einsum: [0, 1, 2],
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  LayerNormalization: [1, 2],
  GroupNormalization: [1, 2],
  InstanceNormalization: [1, 2],
  RMSNormalization: [1],
  SimplifiedLayerNormalization: [1],
  SkipLayerNormalization: [2, 3, 4],
  SkipSimplifiedLayerNormalization: [2, 3],
  BatchNormalization: [1, 2],
  PRelu: [1],
  Gather: [0],
  RNN: [1, 2, 3],
  LSTM: [1, 2, 3],
  GRU: [1, 2, 3],
};

/** What these give is their first input in another form. */
const FORMS = new Set([
  "Identity", "Cast", "CastLike", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice", "Split",
]); // biome-ignore format: a table

const ELEMENTWISE: Readonly<Record<string, Use>> = {
  Add: "added",
  Sub: "added",
  Sum: "added",
  Mul: "factor",
  Div: "factor",
  Concat: "joined",
  Where: "joined",
};

const BUFFER =
  /(^|[._/])(inv_freq|(cos|sin)(_cached|_cache)?|.*mask|position_ids|running_(mean|var)|num_batches_tracked|bias_table_index)$/;

/** Names that exporters make up: `onnx::Add_12`, `val_3`, `unsqueeze_4`, `/layer/Constant_output_0`. */
const MADE_UP =
  /^(onnx::|\/|_?val_?\d|const|lifted_tensor|scalar_tensor|[a-z0-9_]+_\d+$)|Constant(_\d+)?(_output_\d+)?$/i;

/** @throws GraphError for a pattern that matches no float initializer. */
export function recognise(graph: Untyped, options: RoleOptions = {}): Recognised {
  const candidates = [...graph.initializers].filter(([, { dtype }]) => dtype === "f32").map(([name]) => name);
  const matching = (patterns: readonly string[]) => {
    const found = new Set<string>();
    for (const pattern of patterns) {
      const matches = candidates.filter(matcher(pattern));
      if (matches.length === 0) {
        throw new GraphError(`no float initializer of ${graph.name} is named ${JSON.stringify(pattern)}`);
      }
      for (const name of matches) found.add(name);
    }
    return found;
  };
  const frozen = matching(options.frozen ?? []);
  const uses = options.parameters ? undefined : usesOf(graph);
  const chosen = options.parameters && matching(options.parameters);
  const parameters = candidates.filter((name) => {
    if (frozen.has(name)) return false;
    return chosen ? chosen.has(name) : isParameter(name, graph.initializers.get(name)!, uses!.get(name));
  });
  return { parameters, frozen: candidates.filter((name) => frozen.has(name)) };
}

function matcher(pattern: string): (name: string) => boolean {
  const source = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${source.join(".*")}$`, "s");
  return (name) => expression.test(name);
}

function isParameter(name: string, tensor: Tensor, uses: ReadonlySet<Use> | undefined): boolean {
  if (!uses || uses.has("constant") || tensor.shape.length === 0 || BUFFER.test(name)) return false;
  if (uses.has("weight")) return true;
  const long = tensor.shape.filter((size) => size > 1).length;
  if (MADE_UP.test(name)) return long === 1 && !uses.has("joined") && !uses.has("input");
  if (tensor.shape.length === 1) return elements(tensor.shape) > 1;
  if (uses.has("factor") && long > 1) return false;
  return long <= 1 || !numbersOf(tensor).some((value) => value <= -1e4);
}

/** How each initializer is used, seen through operators that only give it another form. */
function usesOf(graph: Untyped): Map<string, Set<Use>> {
  const origin = new Map<string, string>();
  for (const name of graph.initializers.keys()) origin.set(name, name);
  const counted = fromIntegers(graph);
  const angles = anglesOf(graph);
  const raw = rawInputs(graph);
  const uses = new Map<string, Set<Use>>();
  for (const node of graph.nodes) {
    node.inputs.forEach((input, index) => {
      const from = origin.get(input);
      if (from === undefined) return;
      if (index === 0 && FORMS.has(node.op)) {
        for (const output of node.outputs) origin.set(output, from);
        return;
      }
      const still = (other: string) => counted.has(other) || origin.has(other);
      const use = angles.has(node.outputs[0]!) ? frequencyUse(node, index, still) : useOf(node, index);
      if (!use) return;
      const known = (uses.get(from) ?? new Set<Use>()).add(use);
      if (raw.has(node.outputs[0]!)) known.add("input");
      uses.set(from, known);
    });
  }
  return uses;
}

/** Values that are data inputs, or those shifted and scaled by constants without a name: pictures made even. */
function rawInputs({ inputs, initializers, nodes }: Untyped): Set<string> {
  const raw = new Set(inputs.map(({ name }) => name));
  const fixed = (name: string) => initializers.has(name) && MADE_UP.test(name);
  for (const { op, inputs: read, outputs } of nodes) {
    const keeps = FORMS.has(op) ? raw.has(read[0]!) : op in ELEMENTWISE && read.some((name) => raw.has(name));
    if (keeps && read.every((name, i) => raw.has(name) || fixed(name) || (FORMS.has(op) && i > 0))) {
      for (const output of outputs) raw.add(output);
    }
  }
  return raw;
}

/** What becomes of an angle on its way to a sine or cosine. */
const ANGLE_FORMS = new Set([...FORMS, "Mul", "Concat"]);

/** Values of which nothing is taken but sines and cosines. */
function anglesOf(graph: Untyped): Set<string> {
  const others = new Set<string>();
  const angles = new Set<string>();
  for (const { op, inputs, outputs } of [...graph.nodes].reverse()) {
    const angle = op === "Sin" || op === "Cos" || (ANGLE_FORMS.has(op) && angles.has(outputs[0]!));
    for (const input of inputs) {
      if (!angle) others.add(input);
      if (angle && !others.has(input)) angles.add(input);
      else angles.delete(input);
    }
  }
  return angles;
}

/** Values that are made of integers, and of shapes, alone: positions. */
function fromIntegers({ inputs, initializers, nodes }: Untyped): Set<string> {
  const real = (dtype: string) => dtype.startsWith("f");
  const counted = new Set(inputs.filter(({ dtype }) => !real(dtype)).map(({ name }) => name));
  for (const [name, { dtype }] of initializers) if (!real(dtype)) counted.add(name);
  for (const node of nodes) {
    const made = node.op === "Shape" || node.inputs.every((name) => name === "" || counted.has(name));
    if (made) for (const output of node.outputs) counted.add(output);
  }
  return counted;
}

/**
 * A factor of an angle is a frequency; so is a matrix that positions are multiplied with, which are `still`: not made of
 * what the model is given to learn from. Others may be learnt.
 */
function frequencyUse(node: Node, index: number, still: (name: string) => boolean): Use | undefined {
  if (node.op === "Mul") return "constant";
  return node.inputs.some((input, i) => i !== index && still(input)) ? "constant" : useOf(node, index);
}

function useOf(node: Node, index: number): Use | undefined {
  // An exporter that writes a group normalisation as one of instances makes up ones and zeros for it.
  if (node.op === "InstanceNormalization" && MADE_UP.test(node.inputs[index]!)) return "constant";
  if (WEIGHTS[node.op]?.includes(index)) return "weight";
  if (node.op === "BatchNormalization") return "constant";
  // Where else a value is read (an exponent, a bound, its shape), it is no parameter by that; nor is it none.
  return ELEMENTWISE[node.op];
}
