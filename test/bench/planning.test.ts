/** The planner's own figures. */

import { expect, test } from "bun:test";
import { planning } from "../../bench/planning.ts";
import { parseOptions } from "../../cli/options.ts";

test("every case has a plan and its times", async () => {
  const options = parseOptions("bench planning", planning.options, ["--quick"]);
  const { report } = await planning.run(options, { folder: "", note: () => {} });
  const { rows } = report.figures as { rows: { devices: number; used: number; medianMs: number }[] };
  expect(rows.map(({ devices }) => devices)).toEqual([8, 32]);
  for (const { devices, used, medianMs } of rows) {
    expect(used).toBeWithin(1, devices + 1);
    expect(medianMs).toBeGreaterThan(0);
  }
});
