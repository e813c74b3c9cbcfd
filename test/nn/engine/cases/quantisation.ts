/** Random instances of operators between integers and the real numbers they stand for. */

import { elements, Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

export const QUANTISATION_CASES: Readonly<Record<string, (chance: Chance) => OperatorCase>> = {
  DequantizeLinear: (c) => {
    const shape = c.shape(c.int(2, 4));
    const axis = c.int(0, shape.length - 1);
    const integers = (of: readonly number[]) =>
      new Tensor(
        "i8",
        of,
        new Uint8Array(Int8Array.from({ length: elements(of) }, () => c.int(-128, 127)).buffer),
      );
    const scales = c.pick([], [shape[axis]!]);
    const zero = c.int(0, 1) ? [integers(scales)] : [];
    const inputs = [integers(shape), c.f32(scales, 0.01, 0.1), ...zero];
    return { inputs, attributes: { axis: c.pick(axis, axis - shape.length) } };
  },
};
