/** Random normalisations. */

import { type Attribute, float, MICROSOFT } from "../../../../nn/onnx/graph.ts";
import type { Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Attributes = Readonly<Record<string, Attribute>>;
type Maker = (chance: Chance) => OperatorCase;

const EPSILON = { epsilon: float(0.01) };

/** Sizes of [N, C, …]; several values for each channel. */
const channelled = (c: Chance, channels = c.int(1, 3)): number[] => [
  c.int(2, 3),
  channels,
  ...Array.from({ length: c.int(1, 2) }, () => c.int(2, 3)),
];

const vectors = (c: Chance, count: number, low: number, high: number): Tensor[] =>
  Array.from({ length: 2 }, () => c.f32([count], low, high));

export const rows: Maker = (c) => {
  const shape = c.shape(c.int(1, 3)).with(-1, c.int(2, 5));
  const axis = c.int(0, shape.length - 1);
  return {
    inputs: [c.f32(shape), c.f32(shape.slice(axis), 0.5, 2)],
    attributes: { axis: c.pick(axis, axis - shape.length), ...EPSILON },
  };
};

export const lines: Maker = (c) => {
  const shape = c.shape(c.int(1, 3));
  return {
    inputs: [c.f32(shape, 0.2, 2)],
    attributes: { axis: c.int(-shape.length, shape.length - 1), p: c.int(1, 2) },
  };
};

/** Scale and bias by channels, as since version 21, or by groups, as before. */
export const groups: Maker = (c) => {
  const [count, each] = [c.int(1, 3), c.int(1, 2)];
  const shape = channelled(c, count * each);
  const scaled = c.int(0, 1) ? count * each : count;
  return {
    inputs: [c.f32(shape), ...vectors(c, scaled, 0.5, 2)],
    attributes: { num_groups: count, ...EPSILON },
  };
};

export const instances: Maker = (c) => {
  const shape = channelled(c);
  return { inputs: [c.f32(shape), ...vectors(c, shape[1]!, 0.5, 2)], attributes: EPSILON };
};

/** Over samples with pixels, or without. */
export const batch =
  (training: number): Maker =>
  (c) => {
    const shape = c.int(0, 3) ? channelled(c) : [c.int(2, 4), c.int(1, 3)];
    const attributes: Attributes = { training_mode: training, ...EPSILON, momentum: float(0.75) };
    const vectors = [c.f32([shape[1]!]), c.f32([shape[1]!]), c.f32([shape[1]!]), c.f32([shape[1]!], 0.5, 2)];
    return { inputs: [c.f32(shape), ...vectors], attributes };
  };

/** With and without bias; the skip connection may be one for all samples. */
export const skip =
  (vectors: number): Maker =>
  (c) => {
    const shape = [c.int(1, 3), c.int(1, 3), c.int(2, 5)];
    const width = shape.slice(-1);
    const scales = Array.from({ length: c.int(vectors - 1, vectors) }, () => c.f32(width, 0.5, 2));
    const skipped = c.pick(shape, shape, [1, ...shape.slice(1)]);
    return { domain: MICROSOFT, inputs: [c.f32(shape), c.f32(skipped), ...scales], attributes: EPSILON };
  };

export const NORMALISATION_CASES: Readonly<Record<string, Maker>> = {
  SimplifiedLayerNormalization: (c) => {
    const instance = rows(c);
    return { ...instance, attributes: { ...instance.attributes, stash_type: 1 }, outputs: 2 };
  },
  RMSNormalization: rows,
  SkipLayerNormalization: skip(3),
  SkipSimplifiedLayerNormalization: skip(2),
  LpNormalization: lines,
  GroupNormalization: groups,
  InstanceNormalization: instances,
  BatchNormalization: (c) => (c.int(0, 1) ? { ...batch(1)(c), outputs: 3 } : batch(0)(c)),
};
