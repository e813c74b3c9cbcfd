/**
 * Resize as arithmetic: along each axis its result is a matrix times its input, and the matrix follows from the sizes
 * and the attributes alone (ONNX specification, Resize, opset 19).
 */

import { GraphError, type Node } from "../graph.ts";
import { describe, floatAttribute, intAttribute, intsAttribute, normalAxis } from "./rule.ts";

export interface ResizedAxis {
  readonly axis: number;
  readonly from: number;
  readonly to: number;
  /** Output elements for each input element; to / from, but for rounding. */
  readonly scale: number;
}

/**
 * Axes whose size a Resize changes, and how.
 * @param constant the values of inputs 2 (scales) and 3 (sizes), which must be known.
 * @throws GraphError when neither is, or for attributes without a meaning here.
 */
export function resizedAxes(
  node: Node,
  shape: readonly number[],
  constant: (index: number) => readonly number[] | undefined,
): ResizedAxis[] {
  const [scales, sizes] = [constant(2) ?? [], constant(3) ?? []];
  if (scales.length + sizes.length === 0) {
    throw new GraphError(`${describe(node)}: scales (input 2) or sizes (input 3) must be a constant`);
  }
  if ((node.attributes.keep_aspect_ratio_policy ?? "stretch") !== "stretch" && sizes.length > 0) {
    throw new GraphError(`${describe(node)}: keep_aspect_ratio_policy is known as "stretch" only`);
  }
  const axes = (intsAttribute(node, "axes") ?? shape.map((_, i) => i)).map((a) =>
    normalAxis(a, shape.length),
  );
  return axes.flatMap((axis, i) => {
    const from = shape[axis]!;
    const to = sizes.length > 0 ? sizes[i]! : Math.floor(from * scales[i]!);
    const scale = sizes.length > 0 ? to / from : scales[i]!;
    return to === from && scale === 1 ? [] : [{ axis, from, to, scale }];
  });
}

/** The matrix [to, from] by which a Resize maps one axis, by rows. */
export function resizeMatrix(node: Node, resized: ResizedAxis): Float64Array {
  const { from, to } = resized;
  const weights = new Float64Array(to * from);
  const mode = node.attributes.mode ?? "nearest";
  for (let row = 0; row < to; row++) {
    const x = coordinate(node, row, resized);
    const add = (at: number, weight: number) => {
      weights[row * from + Math.min(Math.max(at, 0), from - 1)]! += weight;
    };
    const base = Math.floor(x);
    if (mode === "nearest") add(nearest(node, x), 1);
    else if (mode === "linear") {
      add(base, 1 - (x - base));
      add(base + 1, x - base);
    } else if (mode === "cubic") {
      const outside = intAttribute(node, "exclude_outside", 0) === 1;
      const taps = [-1, 0, 1, 2].map((i) => {
        const lost = outside && (base + i < 0 || base + i >= from);
        return lost ? 0 : cubic(Math.abs(x - base - i), floatAttribute(node, "cubic_coeff_a", -0.75));
      });
      const total = outside ? taps.reduce((a, b) => a + b) : 1;
      taps.forEach((weight, i) => {
        add(base + i - 1, weight / total);
      });
    } else throw new GraphError(`${describe(node)}: no mode "${mode}"; there are nearest, linear and cubic`);
  }
  return weights;
}

/** Where in the input an element of the output lies. */
function coordinate(node: Node, at: number, { from, to, scale }: ResizedAxis): number {
  if (intAttribute(node, "antialias", 0) === 1) {
    throw new GraphError(`${describe(node)}: antialias is not known`);
  }
  const mode = node.attributes.coordinate_transformation_mode ?? "half_pixel";
  switch (mode) {
    case "half_pixel":
      return (at + 0.5) / scale - 0.5;
    case "pytorch_half_pixel":
      return to > 1 ? (at + 0.5) / scale - 0.5 : 0;
    case "half_pixel_symmetric": {
      const adjustment = to / (from * scale);
      return (from / 2) * (1 - adjustment) + (at + 0.5) / scale - 0.5;
    }
    case "asymmetric":
      return at / scale;
    case "align_corners":
      return to > 1 ? (at * (from - 1)) / (to - 1) : 0;
    default:
      throw new GraphError(
        `${describe(node)}: no coordinate_transformation_mode "${mode}"; there are half_pixel, pytorch_half_pixel, half_pixel_symmetric, asymmetric and align_corners`,
      );
  }
}

function nearest(node: Node, x: number): number {
  const mode = node.attributes.nearest_mode ?? "round_prefer_floor";
  switch (mode) {
    case "round_prefer_floor":
      return Math.ceil(x - 0.5);
    case "round_prefer_ceil":
      return Math.floor(x + 0.5);
    case "floor":
      return Math.floor(x);
    case "ceil":
      return Math.ceil(x);
    default:
      throw new GraphError(
        `${describe(node)}: no nearest_mode "${mode}"; there are round_prefer_floor, round_prefer_ceil, floor and ceil`,
      );
  }
}

/** Weight of an element at this distance (Keys, "Cubic convolution interpolation", 1981). */
function cubic(distance: number, a: number): number {
  const d = distance;
  if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
  return d < 2 ? a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a : 0;
}
