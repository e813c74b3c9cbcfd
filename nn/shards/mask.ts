/**
 * Dropout of a part. Every rank draws the mask of the whole, which is the same on all of them and that of a run that
 * is not sharded (`passes/dropout.ts`), and multiplies by its part of it.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Node } from "../onnx/graph.ts";
import { filledTensor } from "../onnx/numbers.ts";
import { type Part, WHOLE } from "./layout.ts";
import type { Value } from "./program.ts";
import type { Values } from "./values.ts";

/** Writes a Dropout, of one output, of a value that is cut. @param rest its further inputs. */
export function dropPart(
  node: Node,
  value: Value,
  rest: readonly (Value | undefined)[],
  values: Values,
): void {
  const [output] = node.outputs as [string];
  const { dtype, shape } = value.type;
  const at = value.layout as Part;
  const add = (
    op: string,
    name: string,
    inputs: readonly (Value | undefined)[],
    attributes: Node["attributes"],
  ) => {
    values.types.set(name, value.type);
    const layout = op === "Mul" ? at : WHOLE;
    values.step({ op, domain: "", inputs: [], outputs: [name], attributes }, inputs, [layout], {
      alike: false,
    });
    return values.of(name)!;
  };
  const size = values.constant(values.fresh(`${output}.size`), Tensor.i64([shape.length], shape));
  const ones = add("ConstantOfShape", values.fresh(`${output}.ones`), [size], {
    value: filledTensor(dtype, [1], 1),
  });
  // The mask is drawn by the name of the output.
  const mask = values.slice(add("Dropout", output, [ones, ...rest], node.attributes), at);
  values.rename(output, add("Mul", values.fresh(`${output}.dropped`), [value, mask], {}));
}
