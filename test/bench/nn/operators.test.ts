import { expect, test } from "bun:test";
import { operators } from "../../../bench/nn/operators.ts";

test("both spellings of every slow operator run and agree; the table says how they compare", async () => {
  const { sections, figures } = await operators({
    ...{ rounds: 1, steps: 1, quick: true, folder: "" },
    note: () => {},
  });
  const rows = sections[0]!.table!.rows;
  const found = figures.operators as readonly { slowUs: number; fastUs: number; times: number }[];
  expect(rows.length).toBeGreaterThan(5);
  expect(found).toHaveLength(rows.length);
  for (const { slowUs, fastUs, times } of found)
    for (const x of [slowUs, fastUs, times]) expect(x).toBeGreaterThan(0);
});
