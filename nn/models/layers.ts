/**
 * Layers as PyTorch's modules have them, written into a graph: each takes a value, adds its parameters under their
 * PyTorch names and shapes, and returns the value that comes out. What has been written becomes a `Model`.
 *
 * Names and shapes are those of a `state_dict`, so weights travel to and from PyTorch as they are: a Linear holds
 * [out, in], a Conv [out, in / groups, height, width], a BatchNorm keeps its running statistics beside its weights.
 */

import { elements, type Shape } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { float, GraphError } from "../onnx/graph.ts";
import { unbiasedVariance } from "../onnx/running-variance.ts";
import { constant, type Scheme } from "./initialise.ts";

export interface ConvOptions {
  /** Channels that come out. */
  readonly channels: number;
  /** Side of the square kernel. */
  readonly kernel: number;
  /** 1 where left out. */
  readonly stride?: number;
  /** Zeros around the image, on every side; 0 where left out. */
  readonly padding?: number;
  readonly weight: Scheme;
  /** Left out where the layer has no bias. */
  readonly bias?: Scheme;
}

export interface LinearOptions {
  readonly outputs: number;
  readonly weight: Scheme;
  readonly bias: Scheme;
}

/** What a BatchNorm weighs its old running statistics with; PyTorch's `momentum` is 1 minus this. */
const MOMENTUM = 0.9;

export class Layers {
  readonly builder: GraphBuilder;
  private readonly parameters: string[] = [];
  private readonly statistics: Record<string, string> = {};
  private readonly schemes = new Map<string, { scheme: Scheme; shape: Shape }>();

  /** @param name of the graph and the model. */
  constructor(name: string) {
    this.builder = new GraphBuilder(name);
  }

  /** A trained input of the graph. */
  parameter(name: string, shape: Shape, scheme: Scheme): string {
    this.parameters.push(name);
    return this.held(name, shape, scheme);
  }

  /** Convolution over [rows, channels, height, width], without groups. */
  conv(x: string, name: string, options: ConvOptions): string {
    const { channels, kernel, stride = 1, padding = 0, weight, bias } = options;
    const inputs = [
      x,
      this.parameter(`${name}.weight`, [channels, this.builder.shape(x)[1]!, kernel, kernel], weight),
    ];
    if (bias) inputs.push(this.parameter(`${name}.bias`, [channels], bias));
    return this.builder.op("Conv", inputs, {
      dilations: [1, 1],
      group: 1,
      kernel_shape: [kernel, kernel],
      pads: [padding, padding, padding, padding],
      strides: [stride, stride],
    });
  }

  /** y = x·Wᵀ + b of a matrix [rows, inputs]. */
  linear(x: string, name: string, { outputs, weight, bias }: LinearOptions, output?: string): string {
    const w = this.parameter(`${name}.weight`, [outputs, this.builder.shape(x)[1]!], weight);
    return this.product(x, w, this.parameter(`${name}.bias`, [outputs], bias), output);
  }

  /** y = x·Wᵀ + b of values that are there already. */
  product(x: string, weight: string, bias: string, output?: string): string {
    const attributes = { alpha: float(1), beta: float(1), transA: 0, transB: 1 };
    return this.builder.op("Gemm", [x, weight, bias], attributes, output);
  }

  /** Normalises each channel over the micro-batch, and keeps running statistics for when there is none. */
  batchNorm(x: string, name: string): string {
    const { builder: b } = this;
    const shape = [b.shape(x)[1]!];
    const inputs = [
      x,
      this.parameter(`${name}.weight`, shape, constant(1)),
      this.parameter(`${name}.bias`, shape, constant(0)),
      this.held(`${name}.running_mean`, shape, constant(0)),
      this.held(`${name}.running_var`, shape, constant(1)),
    ];
    const [mean, variance] = [`${name}.running_mean`, `${name}.running_var`];
    const outputs = [b.fresh("BatchNormalization"), `${mean}.after`, `${variance}.population`];
    const attributes = { epsilon: float(1e-5), momentum: float(MOMENTUM), training_mode: 1 };
    const [y, , moved] = b.node("BatchNormalization", inputs, { attributes, outputs });
    const count = elements(b.shape(x)) / shape[0]!;
    this.statistics[mean] = `${mean}.after`;
    // A single value, as of a tiny image alone, has no variance: nothing is learned from it, but it is predicted for.
    this.statistics[variance] =
      count < 2
        ? moved!
        : unbiasedVariance(
            b,
            { before: variance, after: moved!, momentum: MOMENTUM, count },
            `${variance}.after`,
          );
    return y!;
  }

  /** Normalises each row of the last axis. */
  layerNorm(x: string, name: string, epsilon: number): string {
    const shape = [this.builder.shape(x).at(-1)!];
    const inputs = [
      x,
      this.parameter(`${name}.weight`, shape, constant(1)),
      this.parameter(`${name}.bias`, shape, constant(0)),
    ];
    return this.builder.op("LayerNormalization", inputs, { axis: -1, epsilon: float(epsilon) });
  }

  /** Everything behind the first axis in one row. */
  flatten(x: string): string {
    const [rows, ...rest] = this.builder.shape(x);
    const width = rest.reduce((a, b) => a * b, 1);
    return rest.length === 1 ? x : this.builder.op("Reshape", [x, this.builder.ints([rows!, width])]);
  }

  /** The model that predicts classes with `logits` [rows, classes], by the mean cross-entropy to `targets`. */
  classifier(logits: string): Model {
    const { builder: b, schemes } = this;
    const targets = b.input("targets", "i64", [b.shape(logits)[0]!]);
    b.output(b.op("SoftmaxCrossEntropyLoss", [logits, targets], { reduction: "mean" }, "loss"));
    for (const after of Object.values(this.statistics)) b.output(after);
    return {
      name: b.name,
      graph: b.build(),
      parameters: this.parameters,
      frozen: [],
      statistics: this.statistics,
      ties: {},
      prediction: logits,
      initial: (name, seed) => {
        const held = schemes.get(name);
        if (!held) throw new GraphError(`model ${b.name} has no parameter or statistic "${name}"`);
        return held.scheme(seed, name, held.shape);
      },
    };
  }

  private held(name: string, shape: Shape, scheme: Scheme): string {
    this.schemes.set(name, { scheme, shape });
    return this.builder.input(name, "f32", shape);
  }
}

/** @throws GraphError unless all of the named sizes are whole numbers of at least 1. */
export function requireSizes(model: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new GraphError(`${model}: ${name} is ${value}, it should be a whole number of at least 1`);
  }
}
