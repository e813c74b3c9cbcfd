/**
 * Gradients of lookups and scatters. What was read is added back to where it was read, by ScatterND or
 * ScatterElements: the cost grows with the elements read, not with the size of the table, unlike a product with
 * a one-hot matrix.
 */

import { elements, type Shape, Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { describe, intAttribute, normalAxis } from "../../onnx/shapes.ts";
import type { GradientRule } from "../rule.ts";
import { padZeros, zeros } from "./pieces.ts";

/** A table of this many times the rows that are read is long. */
const FEW = 4;

/** The first of indices that are constant and count up by one, which read a range; else undefined. */
function rangeStart(b: GraphBuilder, indices: string, size: number): number | undefined {
  const given = b.constantInts(indices)?.map((index) => (index < 0 ? index + size : index));
  if (!given || given.length === 0) return undefined;
  return given.every((index, i) => index === given[0]! + i) ? given[0] : undefined;
}

/** Indices of GatherND with batch axes, with the batch's coordinates put in front of each. */
function withBatch(b: GraphBuilder, node: Node): string {
  const batch = intAttribute(node, "batch_dims", 0);
  const indices = node.inputs[1]!;
  if (batch === 0) return indices;
  const rows = b.shape(indices).slice(0, -1);
  const coordinates: number[] = [];
  for (let row = 0; row < elements(rows); row++) {
    const at: number[] = [];
    let rest = row;
    for (let axis = rows.length - 1; axis >= 0; axis--) {
      at[axis] = rest % rows[axis]!;
      rest = Math.floor(rest / rows[axis]!);
    }
    coordinates.push(...at.slice(0, batch));
  }
  const name = `const.coordinates.${rows.join("_")}.${batch}`;
  const constant = b.constant(name, Tensor.i64([...rows, batch], coordinates));
  return b.op("Concat", [constant, indices], { axis: -1 });
}

/** Refuses reductions whose gradient depends on which element won. */
function reductionOf(node: Node): "none" | "add" {
  const reduction = node.attributes.reduction ?? "none";
  if (reduction === "none" || reduction === "add") return reduction;
  throw new GraphError(
    `${describe(node)}: no gradient for the reduction ${reduction}; there is for none, add`,
  );
}

const INDEX_LIMITS = "the reductions none and add; with none, no index twice";

export const indexingRules: Readonly<Record<string, GradientRule>> = {
  /**
   * Lookup along an axis. On the first one (embedding) rows of the gradient are added to rows of a zero table,
   * which gradient accumulation puts its sum in place of. A constant range of indices is a slice, unless it reads a few
   * rows of a long table: those are better added to the sum than a whole table of zeros is.
   */
  Gather: {
    backward: ({ builder: b, node, gradient }) => {
      const [table, indices] = [node.inputs[0]!, node.inputs[1]!];
      const { dtype, shape } = b.type(table);
      const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
      const count = elements(b.shape(indices));
      const flat = shape.with(axis, count);
      const start = rangeStart(b, indices, shape[axis]!);
      if (start !== undefined && (axis > 0 || FEW * count > shape[0]!)) {
        const none = shape.map(() => 0);
        const dy = b.op("Reshape", [gradient(0)!, b.ints(flat)]);
        return [padZeros(b, dy, none.with(axis, start), none.with(axis, shape[axis]! - start - count))];
      }
      const first = [axis, ...shape.map((_, i) => i).filter((i) => i !== axis)];
      const order = (dims: Shape) => first.map((i) => dims[i]!);
      let updates = b.op("Reshape", [gradient(0)!, b.ints(flat)]);
      if (axis > 0) updates = b.op("Transpose", [updates], { perm: first });
      const at = b.op("Reshape", [indices, b.ints([count, 1])]);
      const sum = b.op("ScatterND", [zeros(b, dtype, order(shape)), at, updates], { reduction: "add" });
      if (axis === 0) return [sum, undefined];
      return [b.op("Transpose", [sum], { perm: first.map((_, i) => first.indexOf(i)) }), undefined];
    },
  },

  GatherElements: {
    backward: ({ builder: b, node, gradient }) => {
      const { dtype, shape } = b.type(node.inputs[0]!);
      const attributes = { axis: intAttribute(node, "axis", 0), reduction: "add" };
      return [b.op("ScatterElements", [zeros(b, dtype, shape), node.inputs[1]!, gradient(0)!], attributes)];
    },
  },

  GatherND: {
    backward: ({ builder: b, node, gradient }) => {
      const { dtype, shape } = b.type(node.inputs[0]!);
      const inputs = [zeros(b, dtype, shape), withBatch(b, node), gradient(0)!];
      return [b.op("ScatterND", inputs, { reduction: "add" })];
    },
  },

  ScatterElements: {
    limits: INDEX_LIMITS,
    backward: ({ builder: b, node, gradient, wants }) => {
      const [dy, indices] = [gradient(0)!, node.inputs[1]!];
      const axis = intAttribute(node, "axis", 0);
      const { dtype, shape } = b.type(node.inputs[2]!);
      const overwritten = reductionOf(node) === "none";
      const kept = () =>
        overwritten ? b.op("ScatterElements", [dy, indices, zeros(b, dtype, shape)], { axis }) : dy;
      return [
        wants(0) ? kept() : undefined,
        undefined,
        wants(2) ? b.op("GatherElements", [dy, indices], { axis }) : undefined,
      ];
    },
  },

  ScatterND: {
    limits: INDEX_LIMITS,
    backward: ({ builder: b, node, gradient, wants }) => {
      const [dy, indices] = [gradient(0)!, node.inputs[1]!];
      const { dtype, shape } = b.type(node.inputs[2]!);
      const overwritten = reductionOf(node) === "none";
      const kept = () => (overwritten ? b.op("ScatterND", [dy, indices, zeros(b, dtype, shape)]) : dy);
      return [
        wants(0) ? kept() : undefined,
        undefined,
        wants(2) ? b.op("GatherND", [dy, indices]) : undefined,
      ];
    },
  },

  /** The largest (or smallest) elements of an axis: their gradient goes to where they stood. */
  TopK: {
    forward: (b, node) => {
      const indices = node.outputs[1] || b.fresh("TopK.indices");
      b.append({ ...node, outputs: [node.outputs[0]!, indices] });
      return { indices };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const { dtype, shape } = b.type(node.inputs[0]!);
      const inputs = [zeros(b, dtype, shape), saved.indices!, gradient(0)!];
      return [b.op("ScatterElements", inputs, { axis: intAttribute(node, "axis", -1) })];
    },
  },
};
