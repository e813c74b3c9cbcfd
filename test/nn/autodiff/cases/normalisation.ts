/** Random normalisations for the gradient rules. */

import { float } from "../../../../nn/onnx/graph.ts";
import { batch, groups, instances, lines, rows, skip } from "../../engine/cases/normalisation.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

/** In inference the running statistics are constants: they have no gradient. */
const inference: Maker = (c) => ({ ...batch(0)(c), constant: [3, 4] });
const training: Maker = (c) => ({ ...batch(1)(c), constant: [3, 4] });

export const NORMALISATION_RULE_CASES: Readonly<Record<string, Maker>> = {
  LayerNormalization: (c) => {
    const shape = [...c.shape(c.int(0, 2)), c.int(2, 6)];
    const axis = c.pick(shape.length - 1, c.int(0, shape.length - 1));
    const row = shape.slice(axis);
    return {
      inputs: [c.f32(shape), c.f32(row, 0.5, 2), ...(c.int(0, 2) ? [c.f32(row)] : [])],
      attributes: { axis: c.pick(axis - shape.length, axis), epsilon: float(0.01) },
    };
  },
  SimplifiedLayerNormalization: rows,
  RMSNormalization: rows,
  SkipLayerNormalization: skip(3),
  SkipSimplifiedLayerNormalization: skip(2),
  LpNormalization: lines,
  GroupNormalization: groups,
  InstanceNormalization: instances,
  BatchNormalization: (c) => (c.int(0, 3) ? training(c) : inference(c)),
};
