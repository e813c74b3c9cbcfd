/** Shapes of convolutions, poolings and Resize. */

import { GraphError, type Node } from "../graph.ts";
import { numbersOf } from "../numbers.ts";
import { resizedAxes } from "./interpolation.ts";
import { describe, intAttribute, type Rule, type Rules, type Site } from "./rule.ts";
import { transposedWindowOf, type Window, windowOf } from "./window.ts";

/** Channels that each group of a convolution reads and writes. */
export interface ConvGroups {
  readonly groups: number;
  /** Channels of a group in the convolution's input, and in its output. */
  readonly read: number;
  readonly written: number;
}

/** Groups and windows of a Conv, or of the convolution that a ConvTranspose is the transpose of. */
export function convolutionOf(
  node: Node,
  x: readonly number[],
  w: readonly number[],
): ConvGroups & { window: Window } {
  const groups = intAttribute(node, "group", 1);
  const transposed = node.op === "ConvTranspose";
  const [given, wanted] = [x[1]!, transposed ? w[0]! : w[1]! * groups];
  if (x.length < 3 || w.length !== x.length || given !== wanted || w[0]! % groups !== 0) {
    throw new GraphError(
      `${describe(node)}: weights [${w}] in ${groups} groups do not fit an input of [${x}]`,
    );
  }
  const [spatial, kernel] = [x.slice(2), w.slice(2)];
  return {
    groups,
    read: w[1]!,
    written: w[0]! / groups,
    window: transposed ? transposedWindowOf(node, spatial, kernel) : windowOf(node, spatial, kernel),
  };
}

const pool: Rule = ({ node, input }) => {
  const { dtype, shape } = input(0);
  const pooled = [...shape.slice(0, 2), ...windowOf(node, shape.slice(2)).output];
  return node.op === "MaxPool"
    ? [
        { dtype, shape: pooled },
        { dtype: "i64", shape: pooled },
      ]
    : [{ dtype, shape: pooled }];
};

const globalPool: Rule = ({ input }) => {
  const { dtype, shape } = input(0);
  return [{ dtype, shape: shape.map((dim, i) => (i < 2 ? dim : 1)) }];
};

/** One value for each channel that comes out. */
function requireBias({ node, input, has }: Site, channels: number): void {
  if (!has(2) || input(2).shape.join() === `${channels}`) return;
  throw new GraphError(`${describe(node)}: the bias is [${input(2).shape}], it should be [${channels}]`);
}

export const convolutionShapes: Rules = {
  Conv: (site) => {
    const [x, w] = [site.input(0), site.input(1)];
    const { window } = convolutionOf(site.node, x.shape, w.shape);
    requireBias(site, w.shape[0]!);
    return [{ dtype: x.dtype, shape: [x.shape[0]!, w.shape[0]!, ...window.output] }];
  },
  ConvTranspose: (site) => {
    const [x, w] = [site.input(0), site.input(1)];
    const { window, groups, read } = convolutionOf(site.node, x.shape, w.shape);
    requireBias(site, groups * read);
    return [{ dtype: x.dtype, shape: [x.shape[0]!, groups * read, ...window.input] }];
  },
  MaxPool: pool,
  AveragePool: pool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  Resize: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const numbers = (index: number) => {
      const tensor = constant(index);
      return tensor && numbersOf(tensor);
    };
    const result = [...shape];
    for (const { axis, to } of resizedAxes(node, shape, numbers)) result[axis] = to;
    return [{ dtype, shape: result }];
  },
};
