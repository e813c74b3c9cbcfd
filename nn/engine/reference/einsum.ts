/** Einsum by its definition: over every combination of labels, the product of the operands' elements is added up. */

import { readEquation } from "../../onnx/einsum.ts";
import { describe } from "../../onnx/shapes.ts";
import { compute, eachIndex, stridesOf } from "./ndarray.ts";
import type { Operator, Operators } from "./operator.ts";

const einsum: Operator = (call) => {
  const arrays = call.present();
  const shapes = arrays.map(({ shape }) => shape);
  const { operands, result, sizes } = readEquation(
    String(call.node.attributes.equation),
    shapes,
    describe(call.node),
  );
  const labels = [...sizes.keys()];
  const shape = result.map((label) => sizes.get(label)!);
  /** By how much the flat index moves with each label; axes of one label add up, and stretched ones stay. */
  const steps = (own: readonly string[], dims: readonly number[]) => {
    const strides = stridesOf(dims);
    return labels.map((label) =>
      own.reduce((sum, other, axis) => sum + (other === label && dims[axis] !== 1 ? strides[axis]! : 0), 0),
    );
  };
  const reads = operands.map((own, i) => steps(own, shapes[i]!));
  const writes = steps(result, shape);
  const at = (by: readonly number[], place: readonly number[]) =>
    place.reduce((sum, position, i) => sum + position * by[i]!, 0);
  const totals = new Float64Array(shape.reduce((a, dim) => a * dim, 1));
  eachIndex([...sizes.values()], (_, place) => {
    const factors = arrays.map(({ data }, i) => data[at(reads[i]!, place)]!);
    totals[at(writes, place)]! += factors.reduce((a, factor) => a * factor, 1);
  });
  return [compute(arrays[0]!.dtype, shape, (i) => totals[i]!)];
};

export const einsums: Operators = { Einsum: einsum };
