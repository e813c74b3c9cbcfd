import { expect, test } from "bun:test";
import { operators } from "../../../bench/nn/operators.ts";

test("both spellings of every slow operator run and agree; the table says how they compare", async () => {
  const { sections, figures } = await operators({
    ...{ rounds: 1, steps: 1, quick: true, folder: "" },
    note: () => {},
  });
  const rows = sections[0]!.table!.rows;
  const found = figures.operators as readonly { slowUs: number; fastUs: number }[];
  expect(rows.length).toBeGreaterThan(5);
  expect(found).toHaveLength(rows.length);
  // Tiny operators may take less than the clock can tell.
  for (const { slowUs, fastUs } of found)
    for (const x of [slowUs, fastUs]) expect(x).toBeGreaterThanOrEqual(0);
});
