/** Sharding of operators element by element: operands that meet along the cut axis are cut the same way. */

import { type Part, part, WHOLE, type Whole } from "../layout.ts";
import { type CarryRule, type CarryRules, cutInputs, outputsCut } from "./rule.ts";

const elementwise: CarryRule = (site) => {
  const rank = site.result(0).shape.length;
  const outer = (index: number, axis: number) => axis + rank - site.type(index).shape.length;
  const cuts = cutInputs(site);
  const first = cuts[0]!;
  const axis = outer(first.index, first.at.axis);
  const size = site.result(0).shape[axis]!;
  if (cuts.some(({ index, at }) => outer(index, at.axis) !== axis))
    return "has operands cut along different axes";
  if (cuts.some(({ at }) => at.labels.ids.length !== size))
    return `spreads an operand along axis ${axis}, which is cut`;
  const inputs: (Whole | Part)[] = [];
  for (const [index, name] of site.node.inputs.entries()) {
    const at = name === "" ? WHOLE : site.layout(index);
    const own = axis - outer(index, 0);
    if (at.kind === "part" || name === "" || own < 0 || site.type(index).shape[own] !== size || size === 1) {
      inputs.push(at);
    } else if (site.sliceable(index, first.at.labels)) inputs.push(part(own, first.at.labels));
    else return `meets "${name}", which is whole, along axis ${axis}, which is cut`;
  }
  for (const { at } of cuts.slice(1)) site.units.unite(first.at.labels, at.labels);
  return { inputs, outputs: outputsCut(site, axis, first.at.labels) };
};

const OPERATORS = [
  ...["Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "PRelu"],
  ...["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"],
  ...["Identity", "Cast", "Neg", "Abs", "Sign", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Sin", "Cos", "Floor"],
  ...["Ceil", "Round", "Clip", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "FastGelu", "QuickGelu", "BiasGelu"],
  ...["Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"],
]; // biome-ignore format: a table

export const elementwiseCarry: CarryRules = Object.fromEntries(OPERATORS.map((op) => [op, elementwise]));
