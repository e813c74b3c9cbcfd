/**
 * Gradients of convolutions.
 *
 * With respect to the image: the convolution of the result's gradient with the weights turned round where the stride is
 * 1, and ConvTranspose otherwise. Where there are few pixels for many weights, as in the last layers of a network, both
 * move the weights about for longer than they compute: there it is one product with the weights as they are.
 *
 * With respect to the weights: one product of the result's gradient with the patches that the convolution has read,
 * which a Gather of whole pixels lays out as rows. (`bench nn` measures these beside other ways.)
 */

import { elements, type Shape, Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError, type Node } from "../../onnx/graph.ts";
import { type ConvGroups, convolutionOf } from "../../onnx/shapes/convolution.ts";
import { eachTap, reach, type Window } from "../../onnx/shapes/window.ts";
import { describe } from "../../onnx/shapes.ts";
import { columnSum, type GradientRule } from "../rule.ts";

/** A convolution from `image` [N, C, …] to a result [N, O, …], with weights [O, C / groups, …]. */
interface Convolution extends ConvGroups {
  readonly window: Window;
  readonly images: number;
  readonly weights: Shape;
}

const attributesOf = ({ groups, window }: Convolution) => ({
  group: groups,
  kernel_shape: window.kernel,
  strides: window.strides,
  dilations: window.dilations,
  pads: [...window.before, ...window.after],
});

/** What each tap of each window reads, −1 outside of the image; by windows, then taps. */
function readsOf(window: Window): number[] {
  const reads: number[] = [];
  eachTap(window, (_, __, read) => reads.push(read));
  return reads;
}

/** Of what the patches of all taps hold, what those of a split may hold to be worth one more transpose. */
const SPLIT_SHARE = 0.75;
/** Pixels by channels from which on that transpose, of as much as the weights, is small beside the patches. */
const MANY = 16;

/** Which window reads an element by which tap, as window · taps + tap, −1 for none; by elements, then taps. */
function giversOf(window: Window): number[] {
  const taps = elements(window.kernel);
  const givers = new Array<number>(elements(window.input) * taps).fill(-1);
  eachTap(window, (at, tap, read) => {
    if (read >= 0) givers[read * taps + tap] = at * taps + tap;
  });
  return givers;
}

/** Rows of x [N, rows, C] by `index`; a row of zeros stands for −1. */
function pick(b: GraphBuilder, x: string, index: readonly number[], key: string): string {
  const rows = b.shape(x)[1]!;
  if (index.length === rows && index.every((at, i) => at === i)) return x;
  const padded = index.includes(-1) ? b.op("Pad", [x, b.ints([0, 0, 0, 0, 1, 0])]) : x;
  const picked = index.map((at) => (at < 0 ? rows : at));
  return b.op("Gather", [padded, b.constant(`const.${key}`, Tensor.i64([index.length], picked))], {
    axis: 1,
  });
}

/**
 * Pixels of x [N, C, size] picked by `index`, as rows of a matrix [N·places, taps·C]; a row of zeros stands for −1.
 * A pixel is moved whole, all of its channels at once.
 */
function patches(b: GraphBuilder, x: string, index: readonly number[], taps: number, key: string): string {
  const [images, channels] = b.shape(x) as [number, number, number];
  const pixels = pick(b, b.op("Transpose", [x], { perm: [0, 2, 1] }), index, key);
  return b.op("Reshape", [pixels, b.ints([(images * index.length) / taps, taps * channels])]);
}

const keyOf = (kind: string, { kernel, strides, dilations, before, input, output }: Window) =>
  [kind, ...[input, kernel, strides, dilations, before, output].map((list) => list.join("x"))].join(".");

const product = (b: GraphBuilder, left: string, right: string, transB = 0) =>
  b.op("Gemm", [left, right], { alpha: float(1), beta: float(0), transB });

/** [N, C, …] as [C, N·size]: blocks of memory change places, no element moves within its block. */
function byChannel(b: GraphBuilder, x: string): string {
  const [images, channels, ...sizes] = b.shape(x) as [number, number, ...number[]];
  const size = elements(sizes);
  const flat = b.op("Reshape", [x, b.ints([images, channels, size])]);
  const turned = b.op("Transpose", [flat], { perm: [1, 0, 2] });
  return b.op("Reshape", [turned, b.ints([channels, images * size])]);
}

const flatten = (b: GraphBuilder, x: string): string => {
  const [images, channels, ...sizes] = b.shape(x) as [number, number, ...number[]];
  return b.op("Reshape", [x, b.ints([images, channels, elements(sizes)])]);
};

/**
 * Whether a part of the patches is better laid out of the result's gradient: taps along the first axis shift the
 * result against the image, whoever is moved, so with 3x3 taps three and three shifts are enough for all nine.
 */
function splits({ read, written, images, window }: Convolution): boolean {
  const { kernel, strides, output } = window;
  const [first, taps] = [kernel[0]!, elements(kernel)];
  const moved = (taps / first) * read + first * written;
  const many = images * elements(output) >= MANY * written;
  return many && strides[0] === 1 && moved <= SPLIT_SHARE * taps * read;
}

/** The product of both parts, [O, taps, C]: image shifted along all axes but the first, and result along the first. */
function splitProduct(b: GraphBuilder, conv: Convolution, image: string, dy: string): string {
  const { read, written, window } = conv;
  const { kernel, dilations, before, input, output } = window;
  const [first, rest] = [kernel[0]!, elements(kernel) / kernel[0]!];
  const ones = kernel.map(() => 1);
  const places = output.with(0, input[0]!);
  const along: Window = {
    ...window,
    kernel: kernel.with(0, 1),
    before: before.with(0, 0),
    output: places,
  };
  const across: Window = {
    kernel: ones.with(0, first),
    strides: ones,
    dilations: ones.with(0, -dilations[0]!),
    before: ones.map((_, i) => (i === 0 ? -before[0]! : 0)),
    after: ones.map(() => 0),
    input: output,
    output: places,
  };
  const pixels = patches(b, flatten(b, image), readsOf(along), rest, keyOf("along", along));
  const results = patches(b, flatten(b, dy), readsOf(across), first, keyOf("across", across));
  const attributes = { alpha: float(1), beta: float(0), transA: 1 };
  const apart = b.ints([first, written, rest, read]);
  // In two steps, of which each moves whole rows, or swaps two axes: at once it would move single elements.
  const sum = b.op("Reshape", [b.op("Gemm", [results, pixels], attributes), apart]);
  return b.op("Transpose", [sum], { perm: [1, 0, 2, 3] });
}

/** Gradient of the weights from the image that was read and the gradient of the result. */
function weightGradient(b: GraphBuilder, conv: Convolution, image: string, dy: string): string {
  const { groups, read, written, window, images, weights } = conv;
  const [taps, size, places] = [window.kernel, window.input, window.output].map(elements) as [
    number,
    number,
    number,
  ];
  const rows = (x: string) => patches(b, x, readsOf(window), taps, keyOf("reads", window));
  /** [O, taps, C / groups] in the order of the weights. */
  const ordered = (gradient: string) => {
    const apart = b.op("Reshape", [gradient, b.ints([groups * written, taps, read])]);
    const turned = taps === 1 || read === 1 ? apart : b.op("Transpose", [apart], { perm: [0, 2, 1] });
    return b.op("Reshape", [turned, b.ints(weights)]);
  };
  if (groups === 1 && splits(conv)) return ordered(splitProduct(b, conv, image, dy));
  if (groups === 1) return ordered(product(b, byChannel(b, dy), rows(flatten(b, image))));
  if (read === 1) {
    // Depthwise: every channel is multiplied with its own, so there is no matrix to multiply.
    const pixels = images * places;
    const each = b.op("Reshape", [rows(flatten(b, image)), b.ints([pixels, taps, groups, 1])]);
    const results = b.op("Transpose", [flatten(b, dy)], { perm: [0, 2, 1] });
    const across = b.op("Reshape", [results, b.ints([pixels, 1, groups, written])]);
    const products = b.op("Mul", [each, across]);
    const sum = columnSum(b, b.op("Reshape", [products, b.ints([pixels, taps * groups * written])]));
    const byTap = b.op("Reshape", [sum, b.ints([taps, groups * written])]);
    return b.op("Reshape", [b.op("Transpose", [byTap], { perm: [1, 0] }), b.ints(weights)]);
  }
  const parts = b.op("Reshape", [image, b.ints([images, groups, read, size])]);
  const apart = b.op("Transpose", [parts], { perm: [1, 0, 2, 3] });
  const matrix = rows(b.op("Reshape", [apart, b.ints([groups * images, read, size])]));
  const right = b.op("Reshape", [matrix, b.ints([groups, images * places, taps * read])]);
  const left = b.op("Reshape", [byChannel(b, dy), b.ints([groups, written, images * places])]);
  return ordered(b.op("MatMul", [left, right]));
}

/** Gradient of the image by the convolution's transpose, which the runtime has as an operator. */
function byTranspose(b: GraphBuilder, conv: Convolution, w: string, dy: string): string {
  const { kernel, strides, dilations, before, after, input, output } = conv.window;
  const left = input.map((size, i) => {
    const covered = (output[i]! - 1) * strides[i]! + reach(kernel[i]!, dilations[i]!);
    return size - (covered - before[i]! - after[i]!);
  });
  return b.op("ConvTranspose", [dy, w], { ...attributesOf(conv), output_padding: left });
}

/** Weights [O, C, …] as [C, O, …] with the taps in reverse order: by whole rows, and swaps of two axes. */
function turnedRound(b: GraphBuilder, { read, written, window }: Convolution, w: string): string {
  const taps = elements(window.kernel);
  const matrix = b.op("Reshape", [w, b.ints([written, read * taps])]);
  let turned = b.op("Transpose", [matrix], { perm: [1, 0] });
  if (taps > 1) {
    const byTap = b.op("Reshape", [turned, b.ints([read, taps, written])]);
    const reversed = b.ints(Array.from({ length: taps }, (_, i) => taps - 1 - i));
    turned = b.op("Transpose", [b.op("Gather", [byTap, reversed], { axis: 1 })], { perm: [0, 2, 1] });
  }
  return b.op("Reshape", [turned, b.ints([read, written, ...window.kernel])]);
}

/** The same within each group: [groups·O, C, …] as [groups·C, O, …]. */
function turnedInGroups(b: GraphBuilder, { groups, read, written, window }: Convolution, w: string): string {
  const taps = elements(window.kernel);
  let turned = b.op("Reshape", [w, b.ints([groups, written, read, taps])]);
  if (read > 1 && written > 1) turned = b.op("Transpose", [turned], { perm: [0, 2, 1, 3] });
  if (taps > 1)
    turned = b.op("Slice", [turned, b.ints([-1]), b.ints([-1 - taps]), b.ints([3]), b.ints([-1])]);
  return b.op("Reshape", [turned, b.ints([groups * read, written, ...window.kernel])]);
}

/** Gradient of the image as a convolution with the weights turned round; strides are 1. */
function byConvolution(b: GraphBuilder, conv: Convolution, w: string, dy: string): string {
  const { groups, window } = conv;
  const { kernel, dilations } = window;
  const turned = groups === 1 ? turnedRound(b, conv, w) : turnedInGroups(b, conv, w);
  const pads = [window.before, window.after].flatMap((margins) =>
    margins.map((margin, i) => reach(kernel[i]!, dilations[i]!) - 1 - margin),
  );
  return b.op("Conv", [dy, turned], { ...attributesOf(conv), pads });
}

/** Pixels by channels where turning the weights round costs as much as gathering what each tap is given. */
const FEW = 4;

const hasFewPixels = ({ groups, read, window, images }: Convolution) =>
  groups === 1 && elements(window.kernel) > 1 && images * elements(window.output) <= FEW * read;

/**
 * Gradient of the image out of one product with the weights as they are: what every pixel of the result gives to each
 * tap, from which every pixel of the image gathers its own and sums.
 */
function byTaps(b: GraphBuilder, conv: Convolution, w: string, dy: string): string {
  const { read, written, window, images } = conv;
  const [taps, size, places] = [window.kernel, window.input, window.output].map(elements) as [
    number,
    number,
    number,
  ];
  const turned = b.op("Transpose", [flatten(b, dy)], { perm: [0, 2, 1] });
  const rows = b.op("Reshape", [turned, b.ints([images * places, written])]);
  const given = product(b, rows, b.op("Reshape", [w, b.ints([written, read * taps])]));
  const apart = b.op("Reshape", [given, b.ints([images * places, read, taps])]);
  const byTap = b.op("Transpose", [apart], { perm: [0, 2, 1] });
  const pieces = b.op("Reshape", [byTap, b.ints([images, places * taps, read])]);
  const gathered = pick(b, pieces, giversOf(window), keyOf("givers", window));
  const sum = b.op(
    "ReduceSum",
    [b.op("Reshape", [gathered, b.ints([images * size, taps, read])]), b.ints([1])],
    {
      keepdims: 0,
    },
  );
  const pixels = b.op("Reshape", [sum, b.ints([images, size, read])]);
  const result = b.ints([images, read, ...window.input]);
  return b.op("Reshape", [b.op("Transpose", [pixels], { perm: [0, 2, 1] }), result]);
}

/** The bias is added to every pixel of every image. */
function biasGradient(b: GraphBuilder, dy: string): string {
  const axes = b.shape(dy).map((_, i) => i);
  return b.op("ReduceSum", [dy, b.ints(axes.filter((axis) => axis !== 1))], { keepdims: 0 });
}

function convolution(b: GraphBuilder, node: Node): Convolution {
  const [x, weights] = [b.shape(node.inputs[0]!), b.shape(node.inputs[1]!)];
  return { ...convolutionOf(node, x, weights), images: x[0]!, weights };
}

export const convolutionRules: Readonly<Record<string, GradientRule>> = {
  Conv: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [x, w, bias] = node.inputs as [string, string, string?];
      const dy = gradient(0)!;
      const conv = convolution(b, node);
      const { kernel, strides, dilations, before, after } = conv.window;
      const dBias = bias && wants(2) ? biasGradient(b, dy) : undefined;
      // A margin wider than what a window reaches holds windows that read nothing but zeros.
      const turns = kernel.every((size, i) => {
        return strides[i] === 1 && Math.max(before[i]!, after[i]!) < reach(size, dilations[i]!);
      });
      const dImage = hasFewPixels(conv) ? byTaps : turns ? byConvolution : byTranspose;
      return [
        wants(0) ? dImage(b, conv, w, dy) : undefined,
        wants(1) ? weightGradient(b, conv, x, dy) : undefined,
        dBias,
      ];
    },
  },

  /** The transpose of a convolution: its gradient is the convolution itself, and the weights have the same part. */
  ConvTranspose: {
    limits: "output_padding of a stride or more",
    backward: ({ builder: b, node, gradient, wants }) => {
      const [x, w, bias] = node.inputs as [string, string, string?];
      const dy = gradient(0)!;
      const conv = convolution(b, node);
      const { kernel, strides, dilations, before, after, input, output } = conv.window;
      const fits = output.every((size, i) => {
        const room = input[i]! + before[i]! + after[i]! - reach(kernel[i]!, dilations[i]!);
        return Math.floor(room / strides[i]!) + 1 === size;
      });
      if (!fits) {
        throw new GraphError(
          `${describe(node)}: its gradient is known for output_padding below the stride only`,
        );
      }
      return [
        wants(0) ? b.op("Conv", [dy, w], attributesOf(conv)) : undefined,
        wants(1) ? weightGradient(b, conv, dy, x) : undefined,
        bias && wants(2) ? biasGradient(b, dy) : undefined,
      ];
    },
  },
};
