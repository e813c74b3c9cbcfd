import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { GRADIENT_RULES } from "../../../nn/autodiff/gradient.ts";
import { operatorsTable, TABLE_COMMAND, TABLE_FILE } from "./operators-table.ts";

test("the table of operators in the docs is the one of the rules", () => {
  const isCurrent = readFileSync(TABLE_FILE, "utf8") === operatorsTable();
  expect(isCurrent || `docs/operators.md is not that of the rules; write it by: ${TABLE_COMMAND}`).toBe(true);
});

test("the table has every rule", () => {
  const table = operatorsTable();
  for (const op of Object.keys(GRADIENT_RULES)) expect(table).toMatch(new RegExp(`\\b${op}\\b`));
});
