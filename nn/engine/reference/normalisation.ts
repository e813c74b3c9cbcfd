/** Normalisations by their definitions: of rows, of groups of channels, of channels over all samples. */

import { elements } from "../../../protocols/tensor.ts";
import { floatAttribute, intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute, expand } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";

const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean and variance, of the population, of what `take` picks. */
function moments(values: Float64Array): { mean: number; variance: number } {
  const centre = mean(values);
  return { mean: centre, variance: mean(values.map((x) => (x - centre) ** 2)) };
}

const epsilonOf = (call: Call) => floatAttribute(call.node, "epsilon", 1e-5);

/** Zhang and Sennrich, arXiv:1910.07467. Gives the result and 1/√(mean square + ε) of each row. */
const rms: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", -1), shape.length);
  const size = elements(shape.slice(axis));
  const inverses = Float64Array.from({ length: data.length / size }, (_, row) => {
    const square = mean(data.slice(row * size, (row + 1) * size).map((x) => x * x));
    return 1 / Math.sqrt(square + epsilonOf(call));
  });
  const scale = expand(call.input(1), shape).data;
  const statistics = shape.map((dim, i) => (i < axis ? dim : 1));
  return [
    compute(dtype, shape, (i) => data[i]! * inverses[Math.floor(i / size)]! * scale[i]!),
    compute("f32", statistics, (row) => inverses[row]!),
  ];
};

/** Lines along an axis divided by their norms. */
const lpNormalization: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", -1), shape.length);
  const p = intAttribute(call.node, "p", 2);
  const [size, tail] = [shape[axis]!, elements(shape.slice(axis + 1))];
  return [
    compute(dtype, shape, (i) => {
      const start = Math.floor(i / (tail * size)) * tail * size + (i % tail);
      let sum = 0;
      for (let k = 0; k < size; k++) sum += Math.abs(data[start + k * tail]!) ** p;
      return sum === 0 ? 0 : data[i]! / sum ** (1 / p);
    }),
  ];
};

/** Groups of channels of each sample, with scale and bias by channels or by groups. */
const grouped = (groupsOf: (call: Call) => number): Operator => {
  return (call) => {
    const { dtype, shape, data } = call.input(0);
    const [scale, bias] = [call.input(1).data, call.input(2).data];
    const [channels, groups] = [shape[1]!, groupsOf(call)];
    const pixels = elements(shape.slice(2));
    const size = (channels / groups) * pixels;
    const statistics = Array.from({ length: shape[0]! * groups }, (_, row) =>
      moments(data.subarray(row * size, (row + 1) * size)),
    );
    return [
      compute(dtype, shape, (i) => {
        const of = statistics[Math.floor(i / size)]!;
        const channel = Math.floor(i / pixels) % channels;
        const at = scale.length === channels ? channel : Math.floor(channel / (channels / groups));
        return ((data[i]! - of.mean) / Math.sqrt(of.variance + epsilonOf(call))) * scale[at]! + bias[at]!;
      }),
    ];
  };
};

/** By running statistics, or by those of the samples, which then move the running ones. */
const batchNormalization: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const [scale, bias, means, variances] = [1, 2, 3, 4].map((index) => call.input(index)) as [
    ReturnType<Call["input"]>,
    ReturnType<Call["input"]>,
    ReturnType<Call["input"]>,
    ReturnType<Call["input"]>,
  ];
  const pixels = elements(shape.slice(2));
  const channelOf = (i: number) => Math.floor(i / pixels) % shape[1]!;
  const training = intAttribute(call.node, "training_mode", 0) === 1;
  const used = Array.from({ length: shape[1]! }, (_, channel) =>
    training
      ? moments(data.filter((_, i) => channelOf(i) === channel))
      : { mean: means.data[channel]!, variance: variances.data[channel]! },
  );
  const result = compute(dtype, shape, (i) => {
    const channel = channelOf(i);
    const of = used[channel]!;
    const normal = (data[i]! - of.mean) / Math.sqrt(of.variance + epsilonOf(call));
    return normal * scale.data[channel]! + bias.data[channel]!;
  });
  if (!training) return [result];
  const momentum = floatAttribute(call.node, "momentum", 0.9);
  const moved = (old: number, fresh: number) => momentum * old + (1 - momentum) * fresh;
  return [
    result,
    compute(means.dtype, means.shape, (i) => moved(means.data[i]!, used[i]!.mean)),
    compute(variances.dtype, variances.shape, (i) => moved(variances.data[i]!, used[i]!.variance)),
  ];
};

/** The sum of a value, a skip connection and a bias, normalised over the last axis; the sum is the last output. */
const skip =
  (biasAt: number, centres: boolean): Operator =>
  (call) => {
    const { dtype, shape, data } = call.input(0);
    const width = shape.at(-1)!;
    const skipped = expand(call.input(1), shape).data;
    const [scale, shift] = [call.input(2).data, centres ? call.inputs[3]?.data : undefined];
    const bias = call.inputs[biasAt]?.data;
    const sums = data.map((x, i) => x + skipped[i]! + (bias ? bias[i % width]! : 0));
    const epsilon = floatAttribute(call.node, "epsilon", 1e-12);
    const rows = Array.from({ length: data.length / width }, (_, row) => {
      const line = sums.slice(row * width, (row + 1) * width);
      const centre = centres ? mean(line) : 0;
      return { centre, deviation: Math.sqrt(mean(line.map((x) => (x - centre) ** 2)) + epsilon) };
    });
    const at = (i: number) => rows[Math.floor(i / width)]!;
    const normal = (i: number) => (sums[i]! - at(i).centre) / at(i).deviation;
    const kept = shape.with(-1, 1);
    return [
      compute(dtype, shape, (i) => normal(i) * scale[i % width]! + (shift ? shift[i % width]! : 0)),
      compute("f32", kept, (row) => rows[row]!.centre),
      compute("f32", kept, (row) => 1 / rows[row]!.deviation),
      compute(dtype, shape, (i) => sums[i]!),
    ];
  };

/** ONNX Runtime's own: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
export const fusedNormalisations: Operators = {
  SkipLayerNormalization: skip(4, true),
  SkipSimplifiedLayerNormalization: skip(3, false),
};

export const normalisations: Operators = {
  SimplifiedLayerNormalization: rms,
  RMSNormalization: (call) => rms(call).slice(0, 1),
  LpNormalization: lpNormalization,
  GroupNormalization: grouped((call) => intAttribute(call.node, "num_groups", 1)),
  InstanceNormalization: grouped((call) => call.input(0).shape[1]!),
  BatchNormalization: batchNormalization,
};
