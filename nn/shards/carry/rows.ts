/** Sharding of what works along some axes and leaves the others alone: normalisations, Softmax, reductions, losses. */

import { intAttribute, normalAxis, reducedAxes } from "../../onnx/shapes.ts";
import { type Part, part, SUM } from "../layout.ts";
import { alongside, type CarryRule, type CarryRules, inputsWith, type Site } from "./rule.ts";

const axisOf = ({ node, type }: Site) => normalAxis(intAttribute(node, "axis", -1), type(0).shape.length);

/** All axes from `axis` on are normalised over. */
const normalisation = alongside((site, axis) => axis >= axisOf(site));

const softmax = alongside((site, axis) => axis === axisOf(site));

/** Sums, means and the like over axes that are not cut. */
const reduction: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const { shape } = site.type(0);
  const axes = reducedAxes(site.node, shape, site.node.inputs[1] ? site.ints(1) : undefined);
  if (axes.includes(at.axis)) return `reduces axis ${at.axis}, which is cut`;
  const kept = site.result(0).shape.length === shape.length;
  const axis = kept ? at.axis : at.axis - axes.filter((axis) => axis < at.axis).length;
  return { inputs: inputsWith(site, { 0: at }), outputs: [part(axis, at.labels)] };
};

/** The loss of rows: parts of the mean count by how many rows they are of. */
const crossEntropy: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const { node, units } = site;
  if (at.axis !== 0) return `takes the softmax along axis ${at.axis}, which is cut`;
  if (node.inputs[2] || "ignore_index" in node.attributes) return "is a weighted mean of rows that are cut";
  const targets = site.layout(1);
  if (targets.kind === "whole" && !site.sliceable(1, at.labels)) return "has targets that cannot be cut";
  if (targets.kind === "part") units.unite(targets.labels, at.labels);
  const inputs = inputsWith(site, { 0: at, 1: part(0, at.labels) });
  const rest = node.outputs.slice(1).map(() => at);
  const reduction = node.attributes.reduction ?? "mean";
  if (reduction === "none") return { inputs, outputs: [part(0, at.labels), ...rest] };
  if (reduction === "sum") return { inputs, outputs: [SUM, ...rest] };
  if (rest.length > 0) return "is a mean of rows that are cut, and has a second output";
  return { inputs, outputs: [SUM], mean: at.labels };
};

export const rowCarry: CarryRules = {
  LayerNormalization: normalisation,
  SimplifiedLayerNormalization: normalisation,
  RMSNormalization: normalisation,
  Softmax: softmax,
  LogSoftmax: softmax,
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceMin: reduction,
  ReduceSumSquare: reduction,
  ReduceL2: reduction,
  SoftmaxCrossEntropyLoss: crossEntropy,
};
