/** Random convolutions, poolings and resizes. */

import { type Attribute, float } from "../../../../nn/onnx/graph.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Attributes = Record<string, Attribute>;

const times = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

/** Windows along so many axes, and sizes of an input that has room for them. */
export function windows(c: Chance, rank: number, { even = false } = {}) {
  const kernel = times(rank, () => c.int(1, 3));
  const strides = times(rank, () => c.int(1, 2));
  const dilations = times(rank, () => c.pick(1, 1, 2));
  const spans = kernel.map((size, i) => (size - 1) * dilations[i]! + 1);
  const sizes = spans.map((span) => span + c.int(0, 4));
  // Not wider than half a window, as PyTorch demands of poolings.
  const margin = (i: number) => c.int(0, Math.floor(kernel[i % rank]! / 2));
  const before = times(rank, margin);
  const pads = [...before, ...(even ? before : times(rank, margin))];
  const attributes: Attributes = { kernel_shape: kernel, strides, dilations, pads };
  return { kernel, sizes, attributes };
}

/** The same windows with their margins by name. */
function named(c: Chance, attributes: Attributes): Attributes {
  const { pads: _, ...rest } = attributes;
  return { ...rest, auto_pad: c.pick("SAME_UPPER", "SAME_LOWER", "VALID") };
}

/** Groups, and channels that each reads and writes; depthwise among them. */
const channels = (c: Chance) => c.pick([1, 2, 3], [1, 3, 1], [2, 2, 1], [3, 1, 1], [2, 1, 2], [2, 2, 3]);

export function conv(c: Chance): OperatorCase {
  const { kernel, sizes, attributes } = windows(c, c.pick(1, 2, 2, 2, 3));
  const [group, read, written] = channels(c) as [number, number, number];
  const inputs = [
    c.f32([c.int(1, 3), group * read, ...sizes]),
    c.f32([group * written, read, ...kernel]),
    c.f32([group * written]),
  ];
  const undilated = (attributes.dilations as number[]).every((dilation) => dilation === 1);
  const margins = undilated && c.int(0, 3) === 0 ? named(c, attributes) : attributes;
  return { inputs: inputs.slice(0, c.int(2, 3)), attributes: { ...margins, group } };
}

export function convTranspose(c: Chance): OperatorCase {
  const rank = c.pick(1, 2, 2, 2, 3);
  const { kernel, attributes } = windows(c, rank);
  const [group, read, written] = channels(c) as [number, number, number];
  const inputs = [
    c.f32([c.int(1, 2), group * read, ...times(rank, () => c.int(2, 4))]),
    c.f32([group * read, written, ...kernel]),
    c.f32([group * written]),
  ];
  const extra = (attributes.strides as number[]).map((stride) => c.int(0, stride - 1));
  return {
    inputs: inputs.slice(0, c.int(2, 3)),
    attributes: { ...attributes, group, ...(c.int(0, 1) && { output_padding: extra }) },
  };
}

/** Values far enough from each other that a small step changes no maximum. */
export function distinct(c: Chance, shape: readonly number[]): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return Tensor.f32(
    shape,
    c.permutation(count).map((rank) => (rank - count / 2) / 8),
  );
}

export function maxPool(c: Chance): OperatorCase {
  const { sizes, attributes } = windows(c, c.pick(1, 1, 2, 2, 2, 3));
  const margins = c.int(0, 3) === 0 ? { ...named(c, attributes), dilations: sizes.map(() => 1) } : attributes;
  const ceil = "pads" in margins ? c.int(0, 1) : 0;
  return {
    inputs: [distinct(c, [c.int(1, 2), c.int(1, 2), ...sizes])],
    attributes: { ...margins, ceil_mode: ceil },
  };
}

export function averagePool(c: Chance): OperatorCase {
  const { sizes, attributes } = windows(c, c.pick(1, 1, 2, 2, 2, 3));
  const margins = c.int(0, 3) === 0 ? { ...named(c, attributes), dilations: sizes.map(() => 1) } : attributes;
  return {
    inputs: [c.f32([c.int(1, 2), c.int(1, 2), ...sizes])],
    attributes: {
      ...margins,
      ceil_mode: "pads" in margins ? c.int(0, 1) : 0,
      count_include_pad: c.int(0, 1),
    },
  };
}

/** Of a GlobalMaxPool or GlobalAveragePool. */
export const images = (c: Chance): number[] => [
  c.int(1, 2),
  c.int(1, 3),
  ...times(c.int(1, 3), () => c.int(1, 4)),
];

const globalPool = (c: Chance): OperatorCase => ({ inputs: [c.f32(images(c))] });

/** Images become larger or smaller, by scales or to sizes, in each mode. */
export function resize(c: Chance): OperatorCase {
  const [n, channels, h, w] = [c.int(1, 2), c.int(1, 2), c.int(2, 5), c.int(2, 5)];
  const mode = c.pick("nearest", "linear", "cubic");
  const [tall, wide] = [c.int(1, 8), c.int(1, 8)];
  const attributes: Attributes = {
    mode,
    coordinate_transformation_mode: c.pick("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"),
  };
  if (mode === "nearest") {
    attributes.nearest_mode = c.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil");
  }
  if (mode === "cubic") {
    attributes.cubic_coeff_a = float(c.pick(-0.75, -0.5));
    attributes.exclude_outside = c.int(0, 1);
  }
  const image = c.f32([n, channels, h, w]);
  if (c.int(0, 1)) {
    const sizes = Tensor.i64([4], [n, channels, tall, wide]);
    return {
      inputs: [image, Tensor.f32([0], []), Tensor.f32([0], []), sizes],
      constant: [1, 2, 3],
      attributes,
    };
  }
  // Exact in 32 bits, so that everybody rounds the same coordinates.
  const exact = [1, 1, c.pick(0.5, 1, 2, 1.5), c.pick(0.5, 1, 2, 1.5)];
  return { inputs: [image, Tensor.f32([0], []), Tensor.f32([4], exact)], constant: [1, 2], attributes };
}

export const CONVOLUTION_CASES: Readonly<Record<string, (chance: Chance) => OperatorCase>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: (c) => ({ ...maxPool(c), outputs: 2 }),
  AveragePool: averagePool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  Resize: resize,
};
