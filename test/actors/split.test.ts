/**
 * Backward passes in two, B and W of zero-bubble schedules, by programs written here: when the gradients of parameters are
 * computed changes no bit of them.
 */

import { expect, test } from "bun:test";
import { weightsSha256 } from "../../actors/checkpoint.ts";
import { Device } from "../../actors/device.ts";
import type { MicroBatchOperation, StageProgram } from "../../actors/scheduler/program.ts";
import { validatePrograms } from "../../actors/scheduler/validate.ts";
import type { Stage, StageSpec } from "../../actors/stage.ts";
import type { Model } from "../../nn/model.ts";
import type { Ref } from "../../runtime/index.ts";
import { motley } from "../nn/motley.ts";
import { type ClusterOptions, makeCluster } from "./cluster.ts";
import { closedBehindTests } from "./clusters.ts";

const KINDS: Readonly<Record<string, MicroBatchOperation["op"]>> = {
  a: "receive-activation",
  F: "forward",
  A: "send-activation",
  g: "receive-gradient",
  B: "backward-input",
  G: "send-gradient",
  W: "backward-weight",
};

/** `F0 A0 …`: a kind and the number of a micro-batch. */
function program(stage: number, text: string): StageProgram {
  const operations = text.split(" ").map(([kind, microBatch]) => {
    return { op: KINDS[kind!]!, microBatch: Number(microBatch) };
  });
  return { worker: stage, stage, positions: [stage], operations: [...operations, { op: "step" }] };
}

/** Gradients go back as soon as they can; those of parameters wait, once until after the next micro-batch. */
const PROGRAMS: Readonly<Record<number, readonly StageProgram[]>> = {
  2: [
    program(0, "F0 A0 F1 A1 g0 B0 W0 F2 A2 g1 B1 g2 B2 W1 F3 A3 W2 g3 B3 W3"),
    program(1, "a0 F0 B0 G0 a1 F1 B1 G1 W0 a2 F2 B2 W1 G2 W2 a3 F3 B3 W3 G3"),
  ],
  3: [
    program(0, "F0 A0 F1 A1 F2 A2 g0 B0 W0 F3 A3 g1 B1 W1 g2 B2 W2 g3 B3 W3"),
    program(1, "a0 F0 A0 a1 F1 A1 g0 B0 G0 a2 F2 A2 g1 B1 G1 W0 g2 B2 G2 W1 a3 F3 A3 W2 g3 B3 W3 G3"),
    program(2, "a0 F0 B0 G0 a1 F1 B1 W0 G1 a2 F2 B2 G2 W1 W2 a3 F3 B3 G3 W3"),
  ],
};

/** Has the stages run those programs instead of the plan's. */
function deviceOf(programs: readonly StageProgram[]): typeof Device {
  return class extends Device {
    override host(spec: StageSpec, owner: Ref<any>): Promise<Ref<Stage>> {
      const chunks = spec.chunks.map((chunk) => ({ ...chunk, split: true }));
      return super.host({ ...spec, chunks, program: programs[spec.program.stage]! }, owner);
    }
  };
}

const clusters = closedBehindTests();

/** Two steps with a validation in between: everything they come to, and the kernels that ran. */
async function train(options: ClusterOptions) {
  const cluster = await makeCluster(options);
  clusters.push(cluster);
  const { scheduler, initial } = cluster;
  await scheduler.ask.plan();
  await scheduler.ask.deploy(initial);
  const first = await scheduler.ask.step(0, 1);
  const validation = await scheduler.ask.evaluate(1);
  const second = await scheduler.ask.step(1, 1);
  const losses = [first, second].map(({ loss, gradNorm }) => [loss, gradNorm]);
  const state = weightsSha256(new Map(Object.entries(await scheduler.ask.state())));
  return { bits: { losses, validation, state }, spans: second.reports.map(({ spans }) => spans) };
}

const cases: readonly (readonly [number, string, () => Model | undefined])[] = [
  [2, "a GPT", () => undefined],
  [3, "a model of frozen values, statistics, dropout and ties", motley],
];

test.each(cases)("on %d stages, with the bits of 1f1b: %s", async (devices, _, make) => {
  const programs = PROGRAMS[devices]!;
  expect(() => validatePrograms(programs)).not.toThrow();
  const model = make();
  const common = { devices, engine: "auto", ...(model && { model }) } as const;
  const expected = await train(common);
  const together = await train({ ...common, together: true, classOf: () => deviceOf(programs) });
  expect(together.bits).toEqual(expected.bits);
  const ran = together.spans.map((spans) => spans.map(({ op }) => op).filter((op) => op !== "update"));
  expect(ran).toEqual(
    programs.map(({ operations }) =>
      operations.flatMap(({ op }) => (op === "step" ? [] : [op as MicroBatchOperation["op"]])),
    ),
  );
  const recomputed = { classOf: () => deviceOf(programs), scheduling: { recompute: true } };
  expect((await train({ ...common, ...recomputed })).bits).toEqual(expected.bits);
});
