/**
 * Initial weights that every device, and the PyTorch script, forms for itself and to the same bit.
 *
 * A parameter's values depend on the run's seed, the parameter's name and its shape, and on nothing else: not on
 * the order in which parameters are made, nor on which device holds them. The scheme, which
 * `bench/rivals/pytorch/gpt.py` repeats line by line in numpy:
 *
 * - Element i of a uniform parameter is word i of its stream: block i/2 of Threefry-2x32-20 with the key
 *   (seed, FNV-1a of the name) and the counter (i/2, 0) gives words i and i+1, for even i.
 * - A word becomes u = (word >>> 8) * 2^-24, which is exact, and the value is low + u * (high - low), computed
 *   in 64-bit floats and rounded once to 32.
 * - high = sqrt(3) * std rounded to 32 bits, low = -high: a uniform distribution of that standard deviation.
 * - A GPT's matrices [in, out] have std 1/sqrt(in) (LeCun et al., "Efficient BackProp", 1998), the two of a layer
 *   that write to the residual stream that divided by sqrt(2 * layers) (Radford et al., GPT-2, 2019); embeddings
 *   have std 0.2; biases are 0 and LayerNorm weights 1. GPT-2's 0.02 for all of them suits wide models and long
 *   runs: a narrow one learns much slower from it.
 */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { streamOf, threefry2x32 } from "./threefry.ts";

/** Standard deviation of a GPT's embeddings. */
const EMBEDDING_STD = 0.2;

const UNIT = 2 ** -24;

/** `count` values in [low, high) of one stream of a seed; both are unsigned 32-bit integers. */
export function uniform(
  seed: number,
  stream: number,
  count: number,
  low: number,
  high: number,
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  const words = new Uint32Array(2);
  const width = high - low;
  for (let i = 0; i < count; i += 2) {
    threefry2x32(seed, stream, i / 2, 0, words);
    values[i] = low + (words[0]! >>> 8) * UNIT * width;
    // Beyond the end of an odd count this is a write to nowhere, which typed arrays ignore.
    values[i + 1] = low + (words[1]! >>> 8) * UNIT * width;
  }
  return values;
}

/** An f32 tensor, uniform around zero with standard deviation `std`, from the stream that `name` owns. */
export function uniformTensor(seed: number, name: string, shape: Shape, std: number): Tensor {
  const high = Math.fround(Math.sqrt(3) * std);
  return Tensor.f32(shape, uniform(seed, streamOf(name), elements(shape), -high, high));
}

/**
 * The initial value of a GPT's parameter, told by its name: `*.bias`, LayerNorm weights (`*ln1.weight`,
 * `*ln2.weight`, `ln_f.weight`), embeddings (`*_emb`), projections into the residual stream (`*.proj.weight`), and
 * the other matrices.
 */
export function gptInitial(seed: number, name: string, shape: Shape, layers: number): Tensor {
  if (name.endsWith(".bias")) return Tensor.zeros("f32", shape);
  if (/(^|\.)ln(1|2|_f)\.weight$/.test(name))
    return Tensor.f32(shape, new Float32Array(elements(shape)).fill(1));
  if (name.endsWith("_emb")) return uniformTensor(seed, name, shape, EMBEDDING_STD);
  const std = 1 / Math.sqrt(shape[0]!);
  return uniformTensor(seed, name, shape, name.endsWith(".proj.weight") ? std / Math.sqrt(2 * layers) : std);
}
