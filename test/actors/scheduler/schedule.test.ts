import { describe, expect, test } from "bun:test";
import { isOfMicroBatch, peakInFlight, type StageProgram } from "../../../actors/scheduler/program.ts";
import { chainShape, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { validatePrograms } from "../../../actors/scheduler/validate.ts";

const sizes = [1, 2, 3, 4, 8].flatMap((stages) => [1, 2, 3, 4, 16].map((m) => [stages, m] as const));

/** The micro-batches a stage runs operations of these kinds on, in order. */
function microBatches(program: StageProgram, ...kinds: string[]): number[] {
  return program.operations.flatMap((o) => (isOfMicroBatch(o) && kinds.includes(o.op) ? [o.microBatch] : []));
}

/** A program in one line: F0 B0 with FB for both in one run, S for the step, messages left out. */
function kernels(program: StageProgram): string {
  const signs: Record<string, string> = { forward: "F", backward: "B", "forward-backward": "FB" };
  return program.operations
    .flatMap((o) => (!isOfMicroBatch(o) ? ["S"] : signs[o.op] ? [`${signs[o.op]}${o.microBatch}`] : []))
    .join(" ");
}

for (const [name, schedule] of Object.entries(SCHEDULES)) {
  describe(name, () => {
    test.each(sizes)(
      "%i stages, %i micro-batches: valid, and gradients in micro-batch order",
      (stages, m) => {
        const programs = schedule(chainShape(stages, m));
        expect(() => validatePrograms(programs)).not.toThrow();
        const inOrder = Array.from({ length: m }, (_, i) => i);
        for (const program of programs) {
          expect(microBatches(program, "forward", "forward-backward")).toEqual(inOrder);
          expect(microBatches(program, "backward", "backward-weight", "forward-backward")).toEqual(inOrder);
        }
      },
    );

    test("programs are plain JSON", () => {
      const programs = schedule(chainShape(3, 4));
      expect(JSON.parse(JSON.stringify(programs))).toEqual(programs);
    });

    test("refuses pipelines without stages or micro-batches", () => {
      expect(() => schedule(chainShape(0, 4))).toThrow("a pipeline needs at least 1 of stages, 0 given");
      expect(() => schedule(chainShape(2, 0))).toThrow(
        "a pipeline needs at least 1 of micro-batches, 0 given",
      );
      expect(() => schedule(chainShape(2, 1.5))).toThrow("1.5 given");
    });
  });
}

test("GPipe runs all forward passes first and holds every stash", () => {
  const programs = SCHEDULES.gpipe(chainShape(3, 4));
  expect(programs.map(kernels)).toEqual([
    "F0 F1 F2 F3 B0 B1 B2 B3 S",
    "F0 F1 F2 F3 B0 B1 B2 B3 S",
    "FB0 FB1 FB2 FB3 S",
  ]);
  expect(programs.map(peakInFlight)).toEqual([4, 4, 1]);
});

test("1F1B warms up with stages - stage - 1 forward passes, then takes one of each in turn", () => {
  expect(SCHEDULES["1f1b"](chainShape(3, 4)).map(kernels)).toEqual([
    "F0 F1 F2 B0 F3 B1 B2 B3 S",
    "F0 F1 B0 F2 B1 F3 B2 B3 S",
    "FB0 FB1 FB2 FB3 S",
  ]);
});

test.each(sizes)(
  "1F1B with %i stages and %i micro-batches: stage s holds min(stages - s, M)",
  (stages, m) => {
    const programs = SCHEDULES["1f1b"](chainShape(stages, m));
    programs.forEach((program, stage) => {
      const warmUp = kernels(program).split(" B")[0]!.match(/F\d/g)?.length ?? 0;
      if (stage < stages - 1 && m > stages) expect(warmUp).toBe(stages - stage);
      expect(peakInFlight(program)).toBe(Math.min(stages - stage, m));
    });
  },
);

test.each(sizes)(
  "eager 1F1B with %i stages and %i micro-batches: stage s holds min(2(stages - s) - 1, M)",
  (stages, m) => {
    const programs = SCHEDULES["eager-1f1b"](chainShape(stages, m));
    programs.forEach((program, stage) => {
      expect(peakInFlight(program)).toBe(Math.min(2 * (stages - stage) - 1, m));
    });
  },
);

test("eager 1F1B warms up with 2(stages - stage - 1) forward passes, then takes one of each in turn", () => {
  expect(SCHEDULES["eager-1f1b"](chainShape(3, 6)).map(kernels)).toEqual([
    "F0 F1 F2 F3 F4 B0 F5 B1 B2 B3 B4 B5 S",
    "F0 F1 F2 B0 F3 B1 F4 B2 F5 B3 B4 B5 S",
    "FB0 FB1 FB2 FB3 FB4 FB5 S",
  ]);
});

test("every message's neighbours: the middle stage of 1F1B in full", () => {
  expect(
    SCHEDULES["1f1b"](chainShape(3, 1))[1]!.operations.map((o) =>
      !isOfMicroBatch(o) ? o.op : `${o.op} ${o.microBatch}`,
    ),
  ).toEqual([
    "receive-activation 0",
    "forward 0",
    "send-activation 0",
    "receive-gradient 0",
    "backward 0",
    "send-gradient 0",
    "step",
  ]);
});

describe("with frozen stages in front", () => {
  test.each(Object.entries(SCHEDULES))(
    "%s: they only go forward, and no gradient is sent to them",
    (_, schedule) => {
      const programs = schedule(chainShape(4, 3, 2));
      expect(() => validatePrograms(programs)).not.toThrow();
      const sends = programs.map((program) => microBatches(program, "send-gradient").length);
      expect(sends).toEqual([0, 0, 0, 3]);
      expect(programs.slice(0, 2).map(kernels)).toEqual(["F0 F1 F2 S", "F0 F1 F2 S"]);
      expect(programs.slice(0, 2).map(peakInFlight)).toEqual([2, 2]);
    },
  );

  test("a program that sends them one is refused", () => {
    const programs = SCHEDULES["1f1b"](chainShape(3, 1, 1)).map((program) =>
      program.stage !== 1
        ? program
        : {
            ...program,
            operations: program.operations.flatMap((operation) =>
              operation.op === "backward"
                ? [operation, { op: "send-gradient" as const, microBatch: 0 }]
                : [operation],
            ),
          },
    );
    expect(() => validatePrograms(programs)).toThrow(
      'stage 1: "send-gradient 0" is of a gradient nobody wants: below position 1 nothing is trained',
    );
  });
});
