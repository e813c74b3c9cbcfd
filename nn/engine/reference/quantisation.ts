/** Operators between integers and the real numbers they stand for. */

import { intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute } from "./ndarray.ts";
import type { Operators } from "./operator.ts";

export const quantisation: Operators = {
  /** (q − zero point)·scale, with one scale for all or one for each index of an axis. */
  DequantizeLinear: (call) => {
    const [q, scale, zero] = [call.input(0), call.input(1), call.inputs[2]];
    const axis = normalAxis(intAttribute(call.node, "axis", 1), q.shape.length);
    const inner = q.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const at = (i: number) => (scale.data.length === 1 ? 0 : Math.floor(i / inner) % scale.data.length);
    return [
      compute(scale.dtype, q.shape, (i) => (q.data[i]! - (zero?.data[at(i)] ?? 0)) * scale.data[at(i)]!),
    ];
  },
};
