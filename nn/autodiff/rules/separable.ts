/**
 * Linear maps that work along one axis at a time, as means over windows and Resize do: with M [to, from] the matrix of
 * an axis, the gradient is multiplied by its transpose. The matrices are constants, exact, and small for images.
 */

import { elements, Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";

export interface AxisMap {
  readonly axis: number;
  readonly from: number;
  readonly to: number;
  /** [to, from] by rows. */
  readonly matrix: ArrayLike<number>;
  /** Names the matrix among the constants: maps of one key have one matrix. */
  readonly key: string;
}

/** The gradient before the maps, given the one behind them. */
export function transposeMaps(b: GraphBuilder, gradient: string, maps: readonly AxisMap[]): string {
  return maps.reduce((g, map) => transposeMap(b, g, map), gradient);
}

function transposeMap(b: GraphBuilder, gradient: string, { axis, from, to, matrix, key }: AxisMap): string {
  const shape = b.shape(gradient);
  const [lead, tail] = [elements(shape.slice(0, axis)), elements(shape.slice(axis + 1))];
  const result = b.ints(shape.with(axis, from));
  if (tail === 1) {
    const rows = b.op("Reshape", [gradient, b.ints([lead, to])]);
    const right = b.constant(`const.map.${key}`, Tensor.f32([to, from], Float32Array.from(matrix)));
    return b.op("Reshape", [b.op("MatMul", [rows, right]), result]);
  }
  const turned = Float32Array.from(
    { length: from * to },
    (_, i) => matrix[(i % to) * from + Math.floor(i / to)]!,
  );
  const left = b.constant(`const.map.${key}.transposed`, Tensor.f32([from, to], turned));
  const slabs = b.op("Reshape", [gradient, b.ints([lead, to, tail])]);
  return b.op("Reshape", [b.op("MatMul", [left, slabs]), result]);
}
