/**
 * Gradients of normalisations by channels, of values [N, C, …]: over the samples (batch), or over groups of channels of
 * each sample (group, instance).
 */

import { elements, Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError, type Node } from "../../onnx/graph.ts";
import { describe, floatAttribute, intAttribute } from "../../onnx/shapes.ts";
import type { GradientRule, Saved } from "../rule.ts";

/** A vector by channels as it broadcasts over x. */
function along(b: GraphBuilder, vector: string, x: string): string {
  const rank = b.shape(x).length;
  const shape = Array.from({ length: rank }, (_, i) => (i === 1 ? b.shape(x)[1]! : 1));
  return b.op("Reshape", [vector, b.ints(shape)]);
}

const vector = (b: GraphBuilder, value: string) => b.op("Reshape", [value, b.ints([-1])]);

/** All axes but that of the channels. */
const others = (b: GraphBuilder, x: string): number[] =>
  b
    .shape(x)
    .map((_, i) => i)
    .filter((axis) => axis !== 1);

/** x·factor + shift by channels: a BatchNormalization of mean 0 and variance 1 does both in one pass over x. */
function affine(b: GraphBuilder, x: string, factor: string, shift: string, output?: string): string {
  const channels = b.shape(x)[1]!;
  const filled = (value: number) =>
    b.constant(
      `const.channels.${value}.${channels}`,
      Tensor.f32([channels], new Float32Array(channels).fill(value)),
    );
  const inputs = [x, factor, shift, filled(0), filled(1)];
  return b.op("BatchNormalization", inputs, { epsilon: float(0) }, output);
}

const sum = (b: GraphBuilder, x: string) => b.op("ReduceSum", [x, b.ints(others(b, x))], { keepdims: 0 });

/** old·momentum + fresh·(1 − momentum), the new value of a running statistic. */
function running(b: GraphBuilder, old: string, fresh: string, momentum: number, output: string): void {
  const kept = b.op("Mul", [old, b.scalar(Math.fround(momentum))]);
  const added = b.op("Mul", [fresh, b.scalar(Math.fround(1 - momentum))]);
  b.op("Add", [kept, added], {}, output);
}

const inTraining = (node: Node) => intAttribute(node, "training_mode", 0) === 1;

function reciprocalRoot(b: GraphBuilder, node: Node, variance: string): string {
  const epsilon = b.scalar(Math.fround(floatAttribute(node, "epsilon", 1e-5)));
  return b.op("Reciprocal", [b.op("Sqrt", [b.op("Add", [variance, epsilon])])]);
}

/** By the statistics of the samples themselves: y = c·r·scale + bias with c = x − mean and r = 1/√(mean(c²) + ε). */
function byBatch(b: GraphBuilder, node: Node): Saved {
  const [x, scale, bias, runningMean, runningVariance] = node.inputs as [
    string,
    string,
    string,
    string,
    string,
  ];
  const mean = b.op("ReduceMean", [x, b.ints(others(b, x))], { keepdims: 1 });
  const centred = b.op("Sub", [x, mean]);
  const squares = b.op("Mul", [centred, centred]);
  const variance = b.op("ReduceMean", [squares, b.ints(others(b, x))], { keepdims: 0 });
  const inverse = reciprocalRoot(b, node, variance);
  affine(b, centred, b.op("Mul", [inverse, scale]), bias, node.outputs[0]!);
  const momentum = floatAttribute(node, "momentum", 0.9);
  if (node.outputs[1]) running(b, runningMean, vector(b, mean), momentum, node.outputs[1]);
  if (node.outputs[2]) running(b, runningVariance, variance, momentum, node.outputs[2]);
  return { centred, inverse };
}

/**
 * A group of G of C channels of each sample, normalised as a row: a LayerNormalization, and a factor and a shift by
 * channels where they are one for each channel.
 */
function byGroups(b: GraphBuilder, node: Node, groups: number): void {
  const [x, scale, bias] = node.inputs as [string, string, string];
  const shape = b.shape(x);
  const channels = shape[1]!;
  if (channels % groups !== 0) {
    throw new GraphError(`${describe(node)}: ${channels} channels do not fall into ${groups} groups`);
  }
  const width = elements(shape.slice(1)) / groups;
  const rows = b.op("Reshape", [x, b.ints([shape[0]! * groups, width])]);
  const ones = b.constant(`const.channels.1.${width}`, Tensor.f32([width], new Float32Array(width).fill(1)));
  const epsilon = float(floatAttribute(node, "epsilon", 1e-5));
  const normal = b.op("LayerNormalization", [rows, ones], { axis: -1, epsilon });
  // Before version 21 a GroupNormalization has one scale for each group.
  const apart = b.shape(scale)[0] === groups ? [shape[0]!, groups, width] : shape;
  const spread = b.op("Reshape", [normal, b.ints(apart)]);
  const scaled = b.op("Mul", [spread, along(b, scale, spread)]);
  if (apart === shape) b.op("Add", [scaled, along(b, bias, spread)], {}, node.outputs[0]!);
  else {
    const shifted = b.op("Add", [scaled, along(b, bias, spread)]);
    b.op("Reshape", [shifted, b.ints(shape)], {}, node.outputs[0]!);
  }
}

export const channelNormalisationRules: Readonly<Record<string, GradientRule>> = {
  /**
   * Batch normalisation (Ioffe and Szegedy, 2015). In training, with n = c·r and means over all samples and pixels,
   * dx = scale·r·(dy − mean(dy) − n·mean(dy∘n)): two sums and three passes. With running statistics it is a factor and
   * a shift by channels. Running statistics are updated as ONNX says, by the variance of the population.
   */
  BatchNormalization: {
    limits: "gradients of and through the running statistics",
    spelling: "in training ReduceMean, Sub, Mul, and a BatchNormalization that only scales and shifts",
    forward: (b, node) => {
      if (inTraining(node)) return byBatch(b, node);
      b.append(node);
      return {};
    },
    backward: ({ builder: b, node, gradient, wants, saved }) => {
      if (gradient(1) || gradient(2) || wants(3) || wants(4)) {
        throw new GraphError(`${describe(node)}: the gradient of running statistics is not known`);
      }
      const [x, scale, , mean, variance] = node.inputs as [string, string, string, string, string];
      const dy = gradient(0)!;
      const training = inTraining(node);
      const centred = () => saved.centred ?? b.op("Sub", [x, along(b, mean, x)]);
      const inverse = saved.inverse ?? reciprocalRoot(b, node, variance);
      const dBias = wants(2) || (training && wants(0)) ? sum(b, dy) : undefined;
      const weighs = wants(1) || (training && wants(0));
      const dScale = weighs ? b.op("Mul", [sum(b, b.op("Mul", [dy, centred()])), inverse]) : undefined;
      const dx = () => {
        const factor = b.op("Mul", [scale, inverse]);
        if (!training) return b.op("Mul", [dy, along(b, factor, dy)]);
        const share = b.op("Mul", [factor, b.scalar(-b.shape(x)[1]! / elements(b.shape(x)))]);
        const scaled = affine(b, dy, factor, b.op("Mul", [share, dBias!]));
        const slope = b.op("Mul", [b.op("Mul", [share, dScale!]), inverse]);
        return b.op("Add", [scaled, b.op("Mul", [centred(), along(b, slope, x)])]);
      };
      return [wants(0) ? dx() : undefined, wants(1) ? dScale : undefined, wants(2) ? dBias : undefined];
    },
  },

  /** Wu and He, 2018. */
  GroupNormalization: {
    always: true,
    spelling: "LayerNormalization, Mul, Add",
    expand: (b, node) => byGroups(b, node, intAttribute(node, "num_groups", 1)),
  },

  /** Every channel is a group (Ulyanov et al., 2016). */
  InstanceNormalization: {
    spelling: "LayerNormalization, Mul, Add",
    expand: (b, node) => byGroups(b, node, b.shape(node.inputs[0]!)[1]!),
  },
};
