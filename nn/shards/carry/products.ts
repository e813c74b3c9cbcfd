/**
 * Sharding of matrix products. A product is cut along its batch axes, along rows of its left or columns of its right
 * operand; and where both operands are cut along the axis that is summed over, the ranks' products add up to the whole
 * (Shoeybi et al., "Megatron-LM", 2019: columns, then rows).
 */

import type { Node } from "../../onnx/graph.ts";
import { intAttribute } from "../../onnx/shapes.ts";
import { type Part, part, SUM } from "../layout.ts";
import { type Carried, type CarryRule, type CarryRules, inputsWith, type Site } from "./rule.ts";

/**
 * The axes of an operand in the order in which the product sees them: batch axes, then rows, then columns; the last is
 * summed over on the left, the one before it on the right.
 */
export function productAxes(node: Node, index: 0 | 1, rank: number): number[] {
  const flag = (name: string) => intAttribute(node, `${name}${"AB"[index]}`, 0) === 1;
  const axes = Array.from({ length: rank }, (_, i) => i);
  const batched = flag("transBatch") ? [...axes.slice(1, -1), 0, rank - 1] : axes;
  return flag("trans") ? [...batched.slice(0, -2), batched.at(-1)!, batched.at(-2)!] : batched;
}

/** The axis of an operand that is summed over. */
export function innerAxis(node: Node, index: 0 | 1, rank: number): number {
  return productAxes(node, index, rank).at(index === 0 ? -1 : -2)!;
}

const product: CarryRule = (site) => {
  const ranks = [site.type(0).shape.length, site.type(1).shape.length] as const;
  const out = site.result(0).shape.length;
  if (ranks[0] < 2 || ranks[1] < 2) return "multiplies a vector";
  const axes = [productAxes(site.node, 0, ranks[0]), productAxes(site.node, 1, ranks[1])] as const;
  const [a, b] = [site.layout(0), site.layout(1)];
  /** Where the cut axis of an operand is among its axes in the product's order, counted from the end. */
  const place = (at: typeof a, index: 0 | 1) =>
    at.kind === "part" ? axes[index].indexOf(at.axis) - ranks[index] : undefined;
  const [pa, pb] = [place(a, 0), place(b, 1)];
  const axisAt = (index: 0 | 1, from: number) => axes[index].at(from)!;
  if (pa === -1 || pb === -2) return summed(site, [a, b], [axisAt(0, -1), axisAt(1, -2)], [pa, pb]);
  if (pa === -2 && pb === undefined) return cut(site, { 0: a as Part }, out - 2);
  if (pb === -1 && pa === undefined) return cut(site, { 1: b as Part }, out - 1);
  if (pa === undefined && pb === undefined) return asAdded(site, [axisAt(0, -2), axisAt(1, -1)]);
  const from = pa ?? pb!;
  if (from >= -2 || (pa !== undefined && pb !== undefined && pa !== pb))
    return "has operands cut along different axes";
  const length = site.result(0).shape[out + from]!;
  const given: Record<number, Part> = {};
  for (const index of [0, 1] as const) {
    const at = index === 0 ? a : b;
    const { labels } = (pa === undefined ? b : a) as Part;
    if (at.kind === "part") {
      if (at.labels.ids.length !== length) return "spreads an operand along an axis that is cut";
      given[index] = at;
    } else if ((site.type(index).shape[axes[index].at(from) ?? -1] ?? 1) !== 1 && ranks[index] >= -from) {
      if (!site.sliceable(index, labels))
        return `meets "${site.node.inputs[index]}", which is whole, along a batch axis`;
      given[index] = part(axisAt(index, from), labels);
    }
  }
  if (pa !== undefined && pb !== undefined) site.units.unite((a as Part).labels, (b as Part).labels);
  return cut(site, given, out + from);
};

/** Only the C of a Gemm is cut: the product is cut like it, as that of an adapter beside a matrix is. */
function asAdded(site: Site, [rows, columns]: readonly [number, number]): Carried | string {
  const { axis, labels } = site.layout(2) as Part;
  const index = axis === site.type(2).shape.length - 1 ? 1 : 0;
  const out = site.result(0).shape.length - 2 + index;
  if (!site.sliceable(index, labels))
    return `meets "${site.node.inputs[index]}", which is whole, with a C that is cut`;
  return cut(site, { [index]: part(index === 0 ? rows : columns, labels) }, out);
}

/** One operand is cut along the axis that is summed over. */
function summed(
  site: Site,
  at: readonly ReturnType<Site["layout"]>[],
  axes: readonly [number, number],
  places: readonly (number | undefined)[],
): Carried | string {
  const [a, b] = at as [Part, Part];
  if (places[0] === -1 && places[1] === -2) {
    site.units.unite(a.labels, b.labels);
    return { inputs: inputsWith(site, { 0: a, 1: b }), outputs: [SUM] };
  }
  const index = places[0] === -1 ? 0 : 1;
  const other = 1 - index;
  if (places[other] !== undefined) return "has operands cut along different axes";
  const own = index === 0 ? a : b;
  if (!site.sliceable(other, own.labels)) return `sums over axis ${own.axis}, which is cut`;
  const given = { [index]: own, [other]: part(axes[other]!, own.labels) };
  return { inputs: inputsWith(site, given), outputs: [SUM] };
}

/** The product is cut along `axis`, and with it the C of a Gemm where that has this axis. */
function cut(site: Site, given: Readonly<Record<number, Part>>, axis: number): Carried | string {
  const { labels } = Object.values(given)[0]!;
  const inputs = inputsWith(site, given);
  if (site.node.inputs[2]) {
    const { shape } = site.type(2);
    const own = axis - site.result(0).shape.length + shape.length;
    if (own >= 0 && shape[own] !== 1) {
      const c = site.layout(2);
      if (c.kind === "part" && c.axis === own) site.units.unite(c.labels, labels);
      else if (c.kind === "part" || !site.sliceable(2, labels)) return "adds what is cut in another way";
      inputs[2] = part(own, labels);
    }
  }
  return { inputs, outputs: [part(axis, labels)] };
}

export const productCarry: CarryRules = { Gemm: product, MatMul: product, FusedMatMul: product };
