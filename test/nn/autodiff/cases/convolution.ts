/** Random convolutions, poolings and resizes for the gradient rules. */

import {
  averagePool,
  conv,
  convTranspose,
  distinct,
  images,
  maxPool,
  resize,
} from "../../engine/cases/convolution.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

/** Few pixels and many channels, or the other way round: the rule writes the two differently. */
const squares: Maker = (c) => {
  const [channels, size] = c.pick([6, 2], [2, 5]) as [number, number];
  return {
    inputs: [c.f32([2, channels, size, size]), c.f32([3, channels, 3, 3]), c.f32([3])],
    attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
  };
};

export const CONVOLUTION_RULE_CASES: Readonly<Record<string, Maker>> = {
  Conv: (c) => (c.int(0, 3) ? conv(c) : squares(c)),
  ConvTranspose: convTranspose,
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: (c) => ({ inputs: [c.f32(images(c))] }),
  GlobalMaxPool: (c) => ({ inputs: [distinct(c, images(c))] }),
  Resize: resize,
};
