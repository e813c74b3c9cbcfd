/** The same training on every runtime of this machine: the losses agree. */

import { expect, test } from "bun:test";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import { trainTiny } from "./tiny.ts";

const STEPS = 20;
const TOLERANCE = 1e-3;

test(`a tiny GPT has the same losses on all runtimes, within ${TOLERANCE}`, async () => {
  // The reference is compared operator by operator, and would take longer than all the others.
  const names = (await availableEngines()).map(({ name }) => name).filter((name) => name !== "reference");
  expect(names).toContain("web");
  const losses: number[][] = [];
  for (const name of names) {
    const engine = await createEngine({ engine: name });
    try {
      losses.push(await trainTiny(engine, STEPS));
      expect(Object.values(engine.usage())).toEqual([0, 0, 0, 0]);
    } finally {
      await engine.close();
    }
  }
  const [first] = losses;
  expect(first).toHaveLength(STEPS);
  expect(first!.at(-1)).toBeLessThan(first![0]! - 0.1);
  for (const others of losses.slice(1)) {
    const distances = others.map((loss, step) => Math.abs(loss - first![step]!));
    expect(Math.max(...distances)).toBeLessThan(TOLERANCE);
  }
});
