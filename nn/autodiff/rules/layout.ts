/** Gradients of operators that join, cut, pad, mask or add up along axes. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError } from "../../onnx/graph.ts";
import { describe, intAttribute, normalAxis, padAmounts, sliceCuts } from "../../onnx/shapes.ts";
import type { GradientRule } from "../rule.ts";
import { padEdges } from "./pad.ts";
import { cut, flipped, padZeros, zeros } from "./pieces.ts";

/** Elements of one axis moved `step` apart, with zeros between and behind them. */
function spreadOut(b: GraphBuilder, value: string, axis: number, step: number): string {
  const shape = b.shape(value);
  const apart = [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)];
  const column = b.op("Reshape", [value, b.ints(apart)]);
  const gap = apart.map(() => 0);
  const spread = padZeros(b, column, gap, gap.with(axis + 1, step - 1));
  return b.op("Reshape", [spread, b.ints(shape.with(axis, shape[axis]! * step))]);
}

export const layoutRules: Readonly<Record<string, GradientRule>> = {
  Concat: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const axis = normalAxis(intAttribute(node, "axis", 0), b.shape(node.inputs[0]!).length);
      const sizes = node.inputs.map((input) => b.shape(input)[axis]!);
      const wanted = node.inputs.flatMap((_, i) => (wants(i) ? [i] : []));
      if (wanted.length === 1 && sizes.length > 1) {
        const start = sizes.slice(0, wanted[0]).reduce((sum, size) => sum + size, 0);
        return sizes.map((size, i) =>
          i === wanted[0] ? cut(b, gradient(0)!, axis, start, size) : undefined,
        );
      }
      const outputs = node.inputs.map(() => b.fresh("Split"));
      return b.node("Split", [gradient(0)!, b.ints(sizes)], { attributes: { axis }, outputs });
    },
  },

  /** Parts that nothing depends on count as zeros. */
  Split: {
    backward: ({ builder: b, node, gradient }) => {
      const shape = b.shape(node.inputs[0]!);
      const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
      const used = node.outputs.flatMap((_, i) => (gradient(i) ? [i] : []));
      if (used.length === 1) {
        const sizes = node.outputs.map((output) => (output ? b.shape(output)[axis]! : 0));
        const sum = (parts: readonly number[]) => parts.reduce((a, c) => a + c, 0);
        const none = shape.map(() => 0);
        const [start, size] = [sum(sizes.slice(0, used[0])), sizes[used[0]!]!];
        return [
          padZeros(
            b,
            gradient(used[0]!)!,
            none.with(axis, start),
            none.with(axis, shape[axis]! - start - size),
          ),
        ];
      }
      const parts = node.outputs.map((output, i) => {
        const { dtype, shape: part } = b.type(output);
        return gradient(i) ?? zeros(b, dtype, part);
      });
      return [b.op("Concat", parts, { axis })];
    },
  },

  /** Backward slices are turned round and strided ones spread out first; then zeros are put around. */
  Slice: {
    backward: ({ builder: b, node, gradient }) => {
      const { dtype, shape } = b.type(node.inputs[0]!);
      const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) =>
        b.constantInts(node.inputs[i] || undefined),
      );
      const before = shape.map(() => 0);
      const after = shape.map(() => 0);
      let dx = gradient(0)!;
      if (elements(b.shape(dx)) === 0) return [zeros(b, dtype, shape)];
      for (const { axis, start, step, count } of sliceCuts(node, shape, starts!, ends!, axes, steps)) {
        if (step < 0) dx = flipped(b, dx, axis);
        const [low, stride] = [step < 0 ? start + (count - 1) * step : start, Math.abs(step)];
        // One element has nothing between it and the next.
        if (stride > 1 && count > 1) dx = spreadOut(b, dx, axis, stride);
        before[axis] = low;
        after[axis] = shape[axis]! - low - b.shape(dx)[axis]!;
      }
      // The zeros behind the last element of a strided slice may reach beyond the axis.
      for (const [axis, excess] of after.entries()) {
        if (excess >= 0) continue;
        dx = cut(b, dx, axis, 0, b.shape(dx)[axis]! + excess);
        after[axis] = 0;
      }
      return [padZeros(b, dx, before, after)];
    },
  },

  Pad: {
    limits: "negative pads in the mode constant only",
    backward: ({ builder: b, node, gradient, wants }) => {
      const shape = b.shape(node.inputs[0]!);
      const pads = b.constantInts(node.inputs[1])!;
      const { before, after } = padAmounts(node, shape, pads, b.constantInts(node.inputs[3] || undefined));
      const mode = node.attributes.mode ?? "constant";
      const dy = gradient(0)!;
      if (mode !== "constant") {
        if (pads.some((pad) => pad < 0)) {
          throw new GraphError(`${describe(node)}: negative pads have a gradient in the mode constant only`);
        }
        return [padEdges(b, node, String(mode), dy, shape, before, after)];
      }
      const dx = unpad(b, dy, shape, before, after);
      const total = (value: string) => b.op("ReduceSum", [value], { keepdims: 0 });
      const dValue = () =>
        b.op("Reshape", [b.op("Sub", [total(dy), total(dx)]), b.ints(b.shape(node.inputs[2]!))]);
      return [dx, undefined, node.inputs[2] && wants(2) ? dValue() : undefined];
    },
  },

  Trilu: {
    backward: ({ builder: b, node, gradient }) => [
      b.op("Trilu", [gradient(0)!, ...node.inputs.slice(1)], { upper: intAttribute(node, "upper", 1) }),
    ],
  },

  /** A running sum from one end is differentiated by the running sum from the other. */
  CumSum: {
    backward: ({ builder: b, node, gradient }) => {
      const reverse = 1 - intAttribute(node, "reverse", 0);
      const attributes = { exclusive: intAttribute(node, "exclusive", 0), reverse };
      return [b.op("CumSum", [gradient(0)!, node.inputs[1]!], attributes)];
    },
  },
};

/** Takes away what a Pad added, and puts zeros where it took away. */
function unpad(
  b: GraphBuilder,
  dy: string,
  shape: Shape,
  before: readonly number[],
  after: readonly number[],
): string {
  const axes = shape.flatMap((_, axis) => (before[axis]! > 0 || after[axis]! > 0 ? [axis] : []));
  const starts = axes.map((axis) => Math.max(0, before[axis]!));
  const ends = axes.map((axis) => b.shape(dy)[axis]! - Math.max(0, after[axis]!));
  const inner = axes.length === 0 ? dy : b.op("Slice", [dy, b.ints(starts), b.ints(ends), b.ints(axes)]);
  const missing = (pads: readonly number[]) => pads.map((pad) => Math.max(0, -pad));
  return padZeros(b, inner, missing(before), missing(after));
}
