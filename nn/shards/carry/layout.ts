/** Sharding of operators that rearrange, join or cut: labels are rearranged, joined and cut with the indices. */

import type { Shape } from "../../../protocols/tensor.ts";
import { intAttribute, intsAttribute, normalAxis, sliceCuts } from "../../onnx/shapes.ts";
import { type Layout, type Part, part, WHOLE } from "../layout.ts";
import type { Units } from "../units.ts";
import { type CarryRule, type CarryRules, cutInputs, inputsWith, outputsCut, type Site } from "./rule.ts";

/** Neighbouring axes of two shapes that hold the same elements: from and to, on each side. */
function groupOf(from: Shape, to: Shape, axis: number): { from: [number, number]; to: [number, number] } {
  let [i, j] = [0, 0];
  while (i < from.length) {
    const [i0, j0] = [i, j];
    let [a, b] = [from[i++]!, to[j++] ?? 1];
    while (a !== b) {
      if (a < b) a *= from[i++]!;
      else b *= to[j++]!;
    }
    // Axes of length 1 go with what is before them.
    while (j < to.length && to[j] === 1 && from[i] !== 1) j++;
    while (i < from.length && from[i] === 1 && to[j] !== 1) i++;
    if (axis < i) return { from: [i0, i], to: [j0, j] };
  }
  return { from: [from.length, from.length], to: [to.length, to.length] };
}

const reshape: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  if (cutInputs(site).some(({ index }) => index !== 0)) return "has a shape that is cut";
  const [from, to] = [site.type(0).shape, site.result(0).shape];
  const group = groupOf(from, to, at.axis);
  const before = from.slice(...group.from);
  const after = to.slice(...group.to);
  const flat = spread(before, at.axis - group.from[0], at.labels.ids);
  const targets = targetAxes(site, flat, after);
  if (targets.length === 0) return "leaves no axis to be cut";
  const target = targets[site.choice(targets.length, at.labels)]!;
  const { ids, apart } = along(site.units, flat, after, target);
  for (const [a, b] of apart) site.units.same(a, b);
  const labels = site.units.derive(at.labels, ids, apart.length > 0);
  return { inputs: inputsWith(site, { 0: at }), outputs: [part(group.to[0] + target, labels)] };
};

/** Labels of all elements of a group of axes, of which one is labelled. */
function spread(shape: Shape, axis: number, ids: Int32Array): Int32Array {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const total = shape.reduce((a, b) => a * b, 1);
  return Int32Array.from({ length: total }, (_, i) => ids[Math.floor(i / inner) % shape[axis]!]!);
}

/**
 * Axes that can be the cut one: that which keeps all units apart, or else any that is long enough, the outermost first. Columns of joined
 * queries, keys and values are [3, heads, size] in some models and [heads, 3, size] in others.
 */
function targetAxes({ units, ranks }: Site, flat: Int32Array, shape: Shape): number[] {
  const axes = shape.map((_, i) => i).filter((i) => shape[i]! > 1);
  const best = axes.find((axis) => along(units, flat, shape, axis).apart.length === 0);
  if (best !== undefined) return [best];
  const enough = axes.filter((i) => shape[i]! >= ranks);
  return enough.length > 0 ? enough : axes;
}

/** A label for each index along one axis, and those pairs of labels at one index that are of different units. */
function along(units: Units, flat: Int32Array, shape: Shape, axis: number) {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const ids = new Int32Array(shape[axis]!).fill(-1);
  const apart: (readonly [number, number])[] = [];
  flat.forEach((id, i) => {
    const index = Math.floor(i / inner) % ids.length;
    const first = ids[index]!;
    if (first === -1) ids[index] = id;
    else if (units.unit(first) !== units.unit(id)) apart.push([first, id]);
  });
  return { ids, apart };
}

const transpose: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const rank = site.type(0).shape.length;
  const perm = intsAttribute(site.node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return { inputs: [at], outputs: [part(perm.indexOf(at.axis), at.labels)] };
};

const split: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const axis = axisOf(site);
  const inputs = inputsWith(site, { 0: at });
  if (axis !== at.axis) return { inputs, outputs: outputsCut(site, at.axis, at.labels) };
  let start = 0;
  const outputs = site.node.outputs.map((_, i): Layout => {
    const end = start + site.result(i).shape[axis]!;
    const ids = at.labels.ids.slice(start, end);
    start = end;
    return part(axis, site.units.derive(at.labels, ids));
  });
  return { inputs, outputs };
};

const concat: CarryRule = (site) => {
  const cuts = cutInputs(site);
  const { axis, labels } = cuts[0]!.at;
  if (cuts.some(({ at }) => at.axis !== axis)) return "joins values cut along different axes";
  if (axis === axisOf(site)) {
    if (cuts.length < site.node.inputs.length) return `joins whole values and cut ones along axis ${axis}`;
    for (const { at } of cuts) site.units.join(labels, at.labels);
    const ids = cuts.flatMap(({ at }) => [...at.labels.ids]);
    return { inputs: cuts.map(({ at }) => at), outputs: [part(axis, site.units.derive(labels, ids))] };
  }
  const inputs: Part[] = [];
  for (const [index, name] of site.node.inputs.entries()) {
    const at = site.layout(index);
    if (at.kind === "part") inputs.push(at);
    else if (site.sliceable(index, labels)) inputs.push(part(axis, labels));
    else return `joins "${name}", which is whole, to what is cut along axis ${axis}`;
  }
  for (const { at } of cuts) site.units.unite(labels, at.labels);
  return { inputs, outputs: [part(axis, labels)] };
};

const expand: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const axis = at.axis + site.result(0).shape.length - site.type(0).shape.length;
  if (site.result(0).shape[axis] !== at.labels.ids.length) return `spreads axis ${at.axis}, which is cut`;
  return { inputs: inputsWith(site, { 0: at }), outputs: [part(axis, at.labels)] };
};

const slice: CarryRule = (site) => {
  const at = site.layout(0) as Part;
  const [starts, ends] = [site.ints(1), site.ints(2)];
  const [axes, steps] = [
    site.node.inputs[3] ? site.ints(3) : undefined,
    site.node.inputs[4] ? site.ints(4) : undefined,
  ];
  if (!starts || !ends) return "takes a part that is not constant";
  const cuts = sliceCuts(site.node, site.type(0).shape, starts, ends, axes, steps);
  if (cuts.some(({ axis }) => axis === at.axis)) return `takes a part of axis ${at.axis}, which is cut`;
  return { inputs: inputsWith(site, { 0: at }), outputs: [part(at.axis, at.labels)] };
};

/** Looking up along an axis that is not cut, or by indices that are. */
const gather: CarryRule = (site) => {
  const axis = axisOf(site);
  const [data, indices] = [site.layout(0), site.layout(1)];
  const rank = site.type(1).shape.length;
  if (data.kind === "part" && indices.kind === "part") return "is cut in both inputs";
  if (indices.kind === "part") {
    return { inputs: [WHOLE, indices], outputs: [part(axis + indices.axis, indices.labels)] };
  }
  const at = data as Part;
  if (at.axis === axis) return `looks up along axis ${axis}, which is cut`;
  const to = at.axis < axis ? at.axis : at.axis + rank - 1;
  return { inputs: [at, WHOLE], outputs: [part(to, at.labels)] };
};

function axisOf(site: Site): number {
  return normalAxis(intAttribute(site.node, "axis", 0), site.type(0).shape.length);
}

export const layoutCarry: CarryRules = {
  Reshape: reshape,
  Flatten: reshape,
  Squeeze: reshape,
  Unsqueeze: reshape,
  Transpose: transpose,
  Split: split,
  Concat: concat,
  Expand: expand,
  Slice: slice,
  Gather: gather,
};
