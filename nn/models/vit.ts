/**
 * A vision transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021) as torchvision has it: patches
 * embedded by one product, a class token before them, learned positions, pre-normalised blocks of self-attention and
 * a feed-forward layer of four times the width with exact GELU; classes are read off the class token. Names and
 * shapes of parameters are torchvision's.
 *
 * Activations are token-major, as in `gpt.ts`: row t·B + b of a matrix [tokens·B, D] is token t of image b. Patches
 * do not overlap, so embedding them, a convolution in torchvision, is cutting the images up and one Gemm.
 */

import type { Model } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { constant, lecun, spread, torchDefault, xavier } from "./initialise.ts";
import { Layers, requireSizes } from "./layers.ts";
import { attention } from "./transformer.ts";

export interface VitConfig {
  readonly layers: number;
  /** D, the width of the residual stream. */
  readonly width: number;
  readonly heads: number;
  /** Side of a patch; it divides the input size. */
  readonly patch: number;
  /** Side of the square images. */
  readonly inputSize: number;
  /** Channels of the images: 1 or 3. */
  readonly channels: number;
  readonly classes: number;
}

const EPSILON = 1e-6;
const POSITION_STD = 0.02;

/**
 * Data inputs: `images` f32 [rows, channels, size, size], `targets` i64 [rows].
 * @param rows samples of a micro-batch.
 * @throws GraphError for sizes that are no whole numbers of at least 1, heads that do not divide the width, or
 *   patches that do not divide the image.
 */
export function vit(config: VitConfig, rows: number): Model {
  const { layers: depth, width: d, heads, patch, inputSize, channels, classes } = config;
  requireSizes("vit", { rows, layers: depth, width: d, heads, patch, channels, classes });
  requireSizes("vit", { "input size": inputSize });
  if (d % heads !== 0) throw new GraphError(`vit: width ${d} does not divide into ${heads} heads`);
  if (inputSize % patch !== 0) {
    throw new GraphError(`vit: images of ${inputSize} do not divide into patches of ${patch}`);
  }
  const layers = new Layers("vit");
  const { builder: b } = layers;
  const side = inputSize / patch;
  const tokens = side * side + 1;
  const headSize = d / heads;
  const linear = (x: string, name: string, outputs: number) =>
    layers.linear(x, name, {
      outputs,
      weight: xavier(b.shape(x)[1]!, outputs),
      bias: constant(0),
    });

  const selfAttention = (x: string, name: string): string => {
    const weight = layers.parameter(`${name}.in_proj_weight`, [3 * d, d], xavier(d, 3 * d));
    const bias = layers.parameter(`${name}.in_proj_bias`, [3 * d], constant(0));
    const parts = ["q", "k", "v"].map((part) => b.fresh(part));
    const joined = layers.product(x, weight, bias);
    b.node("Split", [joined, b.ints([d, d, d])], { attributes: { axis: 1 }, outputs: parts });
    const [q, k, v] = parts.map((part) =>
      b.op("Reshape", [part, b.ints([tokens, rows, heads, headSize])]),
    ) as [string, string, string];
    const outProjection = { outputs: d, weight: torchDefault(d), bias: constant(0) };
    return layers.linear(attention(b, [q, k, v], null), `${name}.out_proj`, outProjection);
  };

  const images = b.input("images", "f32", [rows, channels, inputSize, inputSize]);
  const classToken = layers.parameter("class_token", [1, 1, d], constant(0));
  const cells = b.op("Reshape", [images, b.ints([rows, channels, side, patch, side, patch])]);
  const byPatch = b.op("Transpose", [cells], { perm: [2, 4, 0, 1, 3, 5] });
  const inPatch = channels * patch * patch;
  const patches = b.op("Reshape", [byPatch, b.ints([side * side * rows, inPatch])]);
  const kernel = layers.parameter("conv_proj.weight", [d, channels, patch, patch], lecun(inPatch));
  const embedded = layers.product(
    patches,
    b.op("Reshape", [kernel, b.ints([d, inPatch])]),
    layers.parameter("conv_proj.bias", [d], constant(0)),
  );
  const classRows = b.op("Expand", [classToken, b.ints([1, rows, d])]);
  const sequence = b.op("Concat", [classRows, b.op("Reshape", [embedded, b.ints([side * side, rows, d])])], {
    axis: 0,
  });
  const positions = layers.parameter("encoder.pos_embedding", [1, tokens, d], spread(POSITION_STD));
  const placed = b.op("Add", [sequence, b.op("Reshape", [positions, b.ints([tokens, 1, d])])]);

  let x = b.op("Reshape", [placed, b.ints([tokens * rows, d])]);
  for (let layer = 0; layer < depth; layer++) {
    const h = `encoder.layers.encoder_layer_${layer}`;
    x = b.op("Add", [x, selfAttention(layers.layerNorm(x, `${h}.ln_1`, EPSILON), `${h}.self_attention`)]);
    const hidden = b.op("Gelu", [linear(layers.layerNorm(x, `${h}.ln_2`, EPSILON), `${h}.mlp.0`, 4 * d)]);
    x = b.op("Add", [x, linear(hidden, `${h}.mlp.3`, d)]);
  }
  // Of the last layer only the class token is read, and normalising is row by row.
  const first = b.op("Slice", [x, b.ints([0]), b.ints([rows]), b.ints([0])]);
  const head = { outputs: classes, weight: constant(0), bias: constant(0) };
  return layers.classifier(
    layers.linear(layers.layerNorm(first, "encoder.ln", EPSILON), "heads.head", head, "logits"),
  );
}
