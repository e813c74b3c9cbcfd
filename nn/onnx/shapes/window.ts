/**
 * Where the windows of a convolution or a pooling lie: sizes, steps and margins along each spatial axis, as the
 * attributes of a node give them, with `auto_pad` and `ceil_mode` worked out.
 */

import type { Shape } from "../../../protocols/tensor.ts";
import { GraphError, type Node } from "../graph.ts";
import { describe, intAttribute, intsAttribute } from "./rule.ts";

export interface Window {
  /** One entry for each spatial axis, in all of these. */
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Zeros (or nothing, for a maximum) in front of the first element and behind the last. */
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Size of the input. */
  readonly input: readonly number[];
  /** Number of windows: the size of the output. */
  readonly output: readonly number[];
}

/** Elements from the first that a window reads to the last. */
export const reach = (kernel: number, dilation: number): number => (kernel - 1) * dilation + 1;

/**
 * Windows of Conv and of the poolings over an input of these spatial sizes.
 * @param kernel given by the weights of a Conv; by the attribute kernel_shape otherwise.
 * @throws GraphError for attributes of another number of axes, an unknown auto_pad, or windows larger than the input.
 */
export function windowOf(node: Node, input: Shape, kernel = intsAttribute(node, "kernel_shape")): Window {
  if (!kernel) throw new GraphError(`${describe(node)}: the attribute kernel_shape is missing`);
  const { strides, dilations, pads } = steps(node, input.length, kernel);
  const mode = autoPad(node);
  const before: number[] = [];
  const after: number[] = [];
  const output = input.map((size, i) => {
    const [stride, span] = [strides[i]!, reach(kernel[i]!, dilations[i]!)];
    if (mode === "SAME_UPPER" || mode === "SAME_LOWER") {
      const count = Math.ceil(size / stride);
      const total = Math.max((count - 1) * stride + span - size, 0);
      const small = Math.floor(total / 2);
      before.push(mode === "SAME_UPPER" ? small : total - small);
      after.push(total - before[i]!);
      return count;
    }
    before.push(mode === "VALID" ? 0 : pads[i]!);
    after.push(mode === "VALID" ? 0 : pads[i + input.length]!);
    const room = size + before[i]! + after[i]! - span;
    if (room < 0) {
      throw new GraphError(
        `${describe(node)}: a window of ${span} is larger than axis ${i + 2} of [${input}]`,
      );
    }
    if (intAttribute(node, "ceil_mode", 0) === 0) return Math.floor(room / stride) + 1;
    const count = Math.ceil(room / stride) + 1;
    // A window must begin within the input or the margin in front of it.
    return (count - 1) * stride >= size + before[i]! ? count - 1 : count;
  });
  return { kernel, strides, dilations, before, after, input, output };
}

/**
 * Windows of the convolution that a ConvTranspose is the transpose of: it maps `output` of this to `input`.
 * @param from spatial sizes of the ConvTranspose's input.
 */
export function transposedWindowOf(node: Node, from: Shape, kernel: Shape): Window {
  const { strides, dilations, pads } = steps(node, from.length, kernel);
  const extra = intsAttribute(node, "output_padding") ?? from.map(() => 0);
  const wanted = intsAttribute(node, "output_shape");
  const mode = autoPad(node);
  const before: number[] = [];
  const after: number[] = [];
  const input = from.map((size, i) => {
    const full = (size - 1) * strides[i]! + reach(kernel[i]!, dilations[i]!) + extra[i]!;
    const same = mode === "SAME_UPPER" || mode === "SAME_LOWER";
    const target = wanted?.at(i - from.length) ?? (same ? size * strides[i]! : undefined);
    if (target === undefined) {
      before.push(mode === "VALID" ? 0 : pads[i]!);
      after.push(mode === "VALID" ? 0 : pads[i + from.length]!);
      return full - before[i]! - after[i]!;
    }
    const total = Math.max(full - target, 0);
    const small = Math.floor(total / 2);
    before.push(mode === "SAME_UPPER" ? small : total - small);
    after.push(total - before[i]!);
    return target;
  });
  return { kernel, strides, dilations, before, after, input, output: from };
}

/** Calls `visit` for each window and each element of it: their flat indices, and that of what is read, or −1 outside. */
export function eachTap(window: Window, visit: (at: number, tap: number, read: number) => void): void {
  const { kernel, strides, dilations, before, input, output } = window;
  const taps = positions(kernel);
  positions(output).forEach((place, at) => {
    taps.forEach((offset, tap) => {
      let read = 0;
      for (let i = 0; i < input.length && read >= 0; i++) {
        const x = place[i]! * strides[i]! - before[i]! + offset[i]! * dilations[i]!;
        read = x < 0 || x >= input[i]! ? -1 : read * input[i]! + x;
      }
      visit(at, tap, read);
    });
  });
}

/** The coordinates of all elements of a shape, in order. */
function positions(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (all, size) => all.flatMap((lead) => Array.from({ length: size }, (_, i) => [...lead, i])),
    [[]],
  );
}

function steps(node: Node, rank: number, kernel: Shape) {
  const ones = Array.from({ length: rank }, () => 1);
  const strides = intsAttribute(node, "strides") ?? ones;
  const dilations = intsAttribute(node, "dilations") ?? ones;
  const pads = intsAttribute(node, "pads") ?? [...ones, ...ones].map(() => 0);
  const counts = [kernel.length, strides.length, dilations.length, pads.length / 2];
  if (rank === 0 || counts.some((count) => count !== rank)) {
    throw new GraphError(
      `${describe(node)}: kernel, strides, dilations and pads are for ${counts.join(", ")} axes, the input has ${rank}`,
    );
  }
  return { strides, dilations, pads };
}

function autoPad(node: Node): string {
  const mode = node.attributes.auto_pad ?? "NOTSET";
  if (typeof mode === "string" && ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"].includes(mode)) return mode;
  throw new GraphError(
    `${describe(node)}: no auto_pad "${mode}"; there are NOTSET, VALID, SAME_UPPER and SAME_LOWER`,
  );
}
