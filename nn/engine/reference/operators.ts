/** All operators of the reference engine, by domain and name. */

import { MICROSOFT, type Node } from "../../onnx/graph.ts";
import { describe } from "../../onnx/shapes.ts";
import { EngineError } from "../engine.ts";
import { activations, fusedActivations } from "./activation.ts";
import { convolution } from "./convolution.ts";
import { creation } from "./creation.ts";
import { einsums } from "./einsum.ts";
import { elementwise } from "./elementwise.ts";
import { indexing } from "./indexing.ts";
import { layout } from "./layout.ts";
import { losses } from "./loss.ts";
import { fusedNormalisations, normalisations } from "./normalisation.ts";
import type { Operator, Operators } from "./operator.ts";
import { fusedProduct, product } from "./product.ts";
import { quantisation } from "./quantisation.ts";
import { reductions } from "./reduction.ts";

export const OPERATORS: Readonly<Record<string, Operators>> = {
  "": {
    ...activations,
    ...einsums,
    ...elementwise,
    ...layout,
    ...creation,
    ...convolution,
    ...product,
    ...reductions,
    ...losses,
    ...normalisations,
    ...indexing,
    ...quantisation,
  },
  [MICROSOFT]: { ...fusedNormalisations, ...fusedActivations, ...fusedProduct },
};

/** @throws EngineError naming operator and node when there is none. */
export function operatorOf(node: Node): Operator {
  const operator = OPERATORS[node.domain]?.[node.op];
  if (!operator) {
    const name = node.domain === "" ? node.op : `${node.domain}:${node.op}`;
    throw new EngineError(`the reference engine has no operator ${name}, in ${describe(node)}`);
  }
  return operator;
}
