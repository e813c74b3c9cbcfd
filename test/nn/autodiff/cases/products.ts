/** Cases of the rules of products: see rule-cases.ts. */

import { EQUATIONS, einsum, fusedMatMul, matMul } from "../../engine/cases/products.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

export const PRODUCT_RULE_CASES: Readonly<Record<string, (chance: Chance) => RuleCase>> = {
  MatMul: matMul,
  FusedMatMul: fusedMatMul,
  Einsum: (c) => einsum(c, c.pick(...EQUATIONS)),
};
