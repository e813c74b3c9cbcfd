/** The operators that can run on parts, and how. Every other is run as a whole, on every rank. */

import { elementwiseCarry } from "./elementwise.ts";
import { layoutCarry } from "./layout.ts";
import { productCarry } from "./products.ts";
import { rowCarry } from "./rows.ts";
import type { CarryRules } from "./rule.ts";

export const CARRY_RULES: CarryRules = {
  ...elementwiseCarry,
  ...layoutCarry,
  ...productCarry,
  ...rowCarry,
};
