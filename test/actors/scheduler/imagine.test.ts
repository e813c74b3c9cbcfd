/** What is imagined of a model is what a device that measures it would say of its sizes. */

import { expect, test } from "bun:test";
import { readCluster } from "../../../actors/scheduler/cluster.ts";
import { clusterProfile } from "../../../actors/scheduler/cluster-profile.ts";
import { imaginedSegments } from "../../../actors/scheduler/imagine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { profileModel } from "../../../nn/profile.ts";
import { findSegments } from "../../../nn/segments.ts";

const optimizer = { ...DEFAULT_ADAMW, steps: 10 };

test("sizes are those of a profile, and times follow from operations", async () => {
  const model = mlp({ sample: [6], hidden: [8, 8, 4], classes: 3, activation: "gelu" }, 5);
  const segments = findSegments(model);
  const imagined = imaginedSegments(model, segments, { optimizer, microBatches: 2, sharings: [] });
  const engine = createReferenceEngine();
  try {
    const measured = await profileModel(
      engine,
      model,
      { optimizer, microBatches: 2, budgetMs: 0, memoryBytes: 2 ** 30, split: false, sharings: [] },
      () => 0,
    );
    for (const [i, { stashBytes }] of measured.segments.entries()) {
      expect(imagined[i]).toMatchObject({ stashBytes, flops: segments[i]!.flops });
    }
  } finally {
    await engine.close();
  }
  const bytes = 4 * (6 * 8 + 8 + 8 * 8 + 8 + 8 * 4 + 4 + 4 * 3 + 3);
  const sum = (of: (segment: (typeof imagined)[0]) => number) =>
    imagined.reduce((all, own) => all + of(own), 0);
  expect(sum(({ parameterBytes }) => parameterBytes)).toBe(bytes);
  expect(sum(({ stateBytes }) => stateBytes!)).toBe(2 * bytes);

  const { devices } = clusterProfile(
    readCluster(
      JSON.stringify({
        devices: [{ class: "laptop" }, { class: "phone" }],
        links: { default: { mbitPerS: 50 } },
      }),
    ),
    imagined,
  );
  const total = (id: string) => devices[id]!.forwardMs.reduce((sum, ms) => sum + ms, 0);
  expect(total("phone")).toBeGreaterThan(total("laptop"));
});

test("segments can be shared as their graphs allow", () => {
  const model = gptModel({ layers: 2, width: 8, heads: 2, context: 4, vocabulary: 16 }, 2);
  const segments = findSegments(model);
  const imagined = imaginedSegments(model, segments, { optimizer, microBatches: 1, sharings: ["tensor"] });
  expect(imagined.some(({ sharded }) => (sharded?.tensor?.dividedWork ?? 0) > 0.5)).toBe(true);
  expect(imagined.every(({ sharded }) => sharded?.sequence === undefined)).toBe(true);
});
