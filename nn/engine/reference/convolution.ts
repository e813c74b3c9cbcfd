/** Convolutions, poolings and Resize, by their definitions: sums and maxima over what each window reads. */

import { elements } from "../../../protocols/tensor.ts";
import { convolutionOf } from "../../onnx/shapes/convolution.ts";
import { resizedAxes, resizeMatrix } from "../../onnx/shapes/interpolation.ts";
import { eachTap, type Window, windowOf } from "../../onnx/shapes/window.ts";
import { intAttribute } from "../../onnx/shapes.ts";
import { compute, type NdArray } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";

/** Every product of a convolution: its place in the output, in the input, and in the weights. */
function eachProduct(
  call: Call,
  visit: (output: number, input: number, weight: number) => void,
): { window: Window; groups: number; read: number; written: number; bias: Float64Array | undefined } {
  const [x, w] = [call.input(0).shape, call.input(1).shape];
  const { window, ...groups } = convolutionOf(call.node, x, w);
  const { read, written } = groups;
  const [sizeIn, sizeOut, taps] = [window.input, window.output, window.kernel].map(elements) as [
    number,
    number,
    number,
  ];
  eachTap(window, (at, tap, from) => {
    if (from < 0) return;
    for (let image = 0; image < x[0]!; image++) {
      for (let out = 0; out < groups.groups * written; out++) {
        const first = Math.floor(out / written) * read;
        for (let i = 0; i < read; i++) {
          visit(
            (image * groups.groups * written + out) * sizeOut + at,
            (image * groups.groups * read + first + i) * sizeIn + from,
            (out * read + i) * taps + tap,
          );
        }
      }
    }
  });
  return { window, ...groups, bias: call.inputs[2]?.data };
}

/** An array of [images, channels, …] out of sums, with the bias of each channel. */
function withBias(
  like: NdArray,
  channels: number,
  sizes: readonly number[],
  sums: number[],
  bias?: Float64Array,
) {
  const size = elements(sizes);
  return compute(like.dtype, [like.shape[0]!, channels, ...sizes], (i) => {
    return (sums[i] ?? 0) + (bias ? bias[Math.floor(i / size) % channels]! : 0);
  });
}

const conv: Operator = (call) => {
  const [x, w] = [call.input(0), call.input(1)];
  const sums: number[] = [];
  const { window, groups, written, bias } = eachProduct(call, (output, input, weight) => {
    sums[output] = (sums[output] ?? 0) + x.data[input]! * w.data[weight]!;
  });
  return [withBias(x, groups * written, window.output, sums, bias)];
};

/** The transpose of a Conv as a linear map: every product goes the other way. */
const convTranspose: Operator = (call) => {
  const [x, w] = [call.input(0), call.input(1)];
  const sums: number[] = [];
  const { window, groups, read, bias } = eachProduct(call, (output, input, weight) => {
    sums[input] = (sums[input] ?? 0) + x.data[output]! * w.data[weight]!;
  });
  return [withBias(x, groups * read, window.input, sums, bias)];
};

/** Calls `visit` with the elements that each window of each channel reads, the first window of the first channel first. */
function pooled(
  call: Call,
  visit: (reads: readonly number[], window: Window, at: number) => void,
): { window: Window; shape: number[] } {
  const { shape } = call.input(0);
  const window = windowOf(call.node, shape.slice(2));
  const reads = Array.from({ length: elements(window.output) }, (): number[] => []);
  eachTap(window, (at, _, from) => {
    if (from >= 0) reads[at]!.push(from);
  });
  const size = elements(window.input);
  for (let channel = 0; channel < shape[0]! * shape[1]!; channel++) {
    reads.forEach((elements, at) => {
      visit(
        elements.map((i) => channel * size + i),
        window,
        at,
      );
    });
  }
  return { window, shape: [...shape.slice(0, 2), ...window.output] };
}

/** The largest element of each window and where it is, the first of several. */
const maxPool: Operator = (call) => {
  const { dtype, data } = call.input(0);
  if (intAttribute(call.node, "storage_order", 0) === 1) throw call.error("storage_order 1 is not supported");
  const best: number[] = [];
  const { shape } = pooled(call, (reads) => {
    best.push(reads.reduce((a, b) => (data[b]! > data[a]! ? b : a)));
  });
  return [compute(dtype, shape, (i) => data[best[i]!]!), compute("i64", shape, (i) => best[i]!)];
};

/** Elements that a window's mean is over: those in the input, or those in its margins too. */
export function poolCount(window: Window, at: number, withMargins: boolean): number {
  let [count, rest] = [1, at];
  for (let i = window.input.length - 1; i >= 0; i--) {
    const place = rest % window.output[i]!;
    rest = Math.floor(rest / window.output[i]!);
    const [low, high] = withMargins
      ? [-window.before[i]!, window.input[i]! + window.after[i]!]
      : [0, window.input[i]!];
    const start = place * window.strides[i]! - window.before[i]!;
    const taps = Array.from({ length: window.kernel[i]! }, (_, k) => start + k * window.dilations[i]!);
    count *= taps.filter((x) => x >= low && x < high).length;
  }
  return count;
}

const averagePool: Operator = (call) => {
  const { dtype, data } = call.input(0);
  const margins = intAttribute(call.node, "count_include_pad", 0) === 1;
  const means: number[] = [];
  const { shape } = pooled(call, (reads, window, at) => {
    means.push(reads.reduce((sum, i) => sum + data[i]!, 0) / poolCount(window, at, margins));
  });
  return [compute(dtype, shape, (i) => means[i]!)];
};

const global =
  (f: (values: Float64Array) => number): Operator =>
  (call) => {
    const { dtype, shape, data } = call.input(0);
    const size = elements(shape.slice(2));
    const result = shape.map((dim, i) => (i < 2 ? dim : 1));
    return [compute(dtype, result, (i) => f(data.subarray(i * size, (i + 1) * size)))];
  };

const resize: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const given = (index: number) => call.optionalNumbers(index);
  let [values, sizes] = [data, [...shape]];
  for (const resized of resizedAxes(call.node, shape, given)) {
    const { axis, from, to } = resized;
    const weights = resizeMatrix(call.node, resized);
    const tail = elements(sizes.slice(axis + 1));
    const source = values;
    sizes = sizes.with(axis, to);
    values = Float64Array.from({ length: elements(sizes) }, (_, i) => {
      const [lead, at, last] = [Math.floor(i / (tail * to)), Math.floor(i / tail) % to, i % tail];
      let sum = 0;
      for (let k = 0; k < from; k++) {
        const weight = weights[at * from + k]!;
        if (weight !== 0) sum += weight * source[(lead * from + k) * tail + last]!;
      }
      return sum;
    });
  }
  return [compute(dtype, sizes, (i) => values[i]!)];
};

export const convolution: Operators = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: global((values) => values.reduce((a, b) => a + b) / values.length),
  GlobalMaxPool: global((values) => values.reduce((a, b) => Math.max(a, b))),
  Resize: resize,
};
