/** Shapes of normalisations. */

import { GraphError } from "../graph.ts";
import { describe, intAttribute, normalAxis, type Rule, type Rules, same } from "./rule.ts";

/** The result, and so many statistics of each row that has been normalised. */
const rows =
  (statistics: number): Rule =>
  ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", -1), shape.length);
    const kept = { dtype: "f32" as const, shape: shape.map((dim, i) => (i < axis ? dim : 1)) };
    return [{ dtype, shape }, ...Array.from({ length: statistics }, () => kept)];
  };

/** Vectors beyond the first input are by channels, or by groups of them. */
const channels: Rule = ({ node, input }) => {
  const type = input(0);
  const allowed = [type.shape[1], intAttribute(node, "num_groups", type.shape[1]!)];
  const wrong = node.inputs.slice(1).find((_, i) => {
    const { shape } = input(i + 1);
    return shape.length !== 1 || !allowed.includes(shape[0]!);
  });
  if (wrong !== undefined || type.shape.length < 2) {
    throw new GraphError(`${describe(node)}: "${wrong}" is no vector by the channels of [${type.shape}]`);
  }
  return [type];
};

/** The sum and its statistics beside the result; see ONNX Runtime's contrib operators. */
const skip: Rule = ({ input }) => {
  const type = input(0);
  const kept = { dtype: "f32" as const, shape: type.shape.with(-1, 1) };
  return [type, kept, kept, type];
};

export const normalisationShapes: Rules = {
  LayerNormalization: rows(2),
  SimplifiedLayerNormalization: rows(1),
  RMSNormalization: rows(0),
  SkipLayerNormalization: skip,
  SkipSimplifiedLayerNormalization: skip,
  LpNormalization: same,
  GroupNormalization: channels,
  InstanceNormalization: channels,
  BatchNormalization: (site) => {
    const [type] = channels(site);
    if (intAttribute(site.node, "training_mode", 0) === 0) return [type!];
    return [type!, site.input(3), site.input(4)];
  },
};
