/** Schedules of pipelines of any shape: members that take turns or work together, several chunks, frozen beginnings. */

import { describe, expect, test } from "bun:test";
import {
  type Operation,
  peakInFlight,
  peaksInFlight,
  type StageProgram,
} from "../../../actors/scheduler/program.ts";
import {
  chainShape,
  isAsynchronous,
  type PipelineShape,
  SCHEDULES,
  type ScheduleName,
} from "../../../actors/scheduler/schedule.ts";
import { validatePrograms } from "../../../actors/scheduler/validate.ts";
import { ALLOWED, randomShape } from "./shapes.ts";

const NAMES = Object.keys(SCHEDULES) as ScheduleName[];

/** One letter each: F forward, B backward, J both, I and W its halves, R reduce, U update; messages in small letters. */
const SIGNS: Readonly<Record<Operation["op"], string>> = {
  forward: "F",
  backward: "B",
  "forward-backward": "J",
  "backward-input": "I",
  "backward-weight": "W",
  reduce: "R",
  update: "U",
  "send-activation": "s",
  "receive-activation": "r",
  "send-gradient": "g",
  "receive-gradient": "h",
  step: "",
};

/** A program in one line; chunks behind a point. */
function line({ operations }: StageProgram, messages = false): string {
  return operations
    .flatMap((operation) => {
      const sign = SIGNS[operation.op];
      if (operation.op === "step" || (!messages && /[a-z]/.test(sign))) return [];
      const chunk = operation.chunk === undefined ? "" : `.${operation.chunk}`;
      return [`${sign}${operation.op === "reduce" ? "" : operation.microBatch}${chunk}`];
    })
    .join(" ");
}

describe.each(NAMES)("%s", (name) => {
  test("is valid for 200 pipelines of any shape", () => {
    for (let seed = 0; seed < 200; seed++) {
      const shape = randomShape(seed, ALLOWED[name]);
      const programs = SCHEDULES[name](shape);
      expect(programs).toHaveLength(shape.stages.flatMap(({ members }) => members).length);
      try {
        validatePrograms(programs);
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  });

  test("updates within the step only where it says that it is asynchronous", () => {
    const updates = SCHEDULES[name](chainShape(3, 4)).flatMap(({ operations }) =>
      operations.filter(({ op }) => op === "update"),
    );
    expect(updates).toHaveLength(isAsynchronous(name) ? 3 * 4 : 0);
  });
});

/** A stage of several members, and how they share its work. */
const stage = (
  positions: readonly number[],
  sharing: "data" | "tensor" | null,
  ...members: readonly (readonly number[])[]
) => ({ positions, sharing, members });

const pipeline = (microBatches: number, ...stages: PipelineShape["stages"]): PipelineShape => ({
  ...{ microBatches, forwardOnly: 0, stages },
});

test("one stage whose members take turns: sums of each chunk follow its last backward pass", () => {
  const shape = pipeline(4, stage([0, 1, 2], "data", [0, 2, 3], [1]));
  for (const name of NAMES.filter((each) => ALLOWED[each].shared)) {
    expect(SCHEDULES[name](shape).map((program) => line(program, true))).toEqual([
      "F0.0 F0.1 J0.2 B0.1 B0.0 F2.0 F2.1 J2.2 B2.1 B2.0 F3.0 F3.1 J3.2 R.2 B3.1 R.1 B3.0 R.0",
      "F1.0 F1.1 J1.2 R.2 B1.1 R.1 B1.0 R.0",
    ]);
  }
});

test("a member without a micro-batch adds nothing to the sums, and takes part in them", () => {
  const [, idle] = SCHEDULES["1f1b"](pipeline(1, stage([0, 1], "data", [0], [])));
  expect(line(idle!)).toBe("R.0 R.1");
});

test("one stage whose members work together: all do the same, and nobody sends", () => {
  const programs = SCHEDULES["1f1b"](pipeline(2, stage([0], "tensor", [0, 1], [0, 1])));
  expect(programs.map((program) => line(program, true))).toEqual(["J0 J1", "J0 J1"]);
});

test("replicated stages warm up by the workers behind them, as PipeDream's do", () => {
  // Two workers in front of one, and the other way round (Narayanan et al., 2019, figure 8).
  const wideFirst = SCHEDULES["1f1b"](
    pipeline(6, stage([0], "data", [0, 2, 4], [1, 3, 5]), stage([1], null, [0, 1, 2, 3, 4, 5])),
  );
  expect(wideFirst.map((program) => line(program))).toEqual([
    "F0 F2 B0 F4 B2 B4 R",
    "F1 F3 B1 F5 B3 B5 R",
    "J0 J1 J2 J3 J4 J5",
  ]);
  const wideLast = SCHEDULES["1f1b"](
    pipeline(6, stage([0], null, [0, 1, 2, 3, 4, 5]), stage([1], "data", [0, 2, 4], [1, 3, 5])),
  );
  expect(line(wideLast[0]!)).toBe("F0 F1 F2 B0 F3 B1 F4 B2 F5 B3 B4 B5");
});

test("of members that work together one speaks, in turn, and all listen", () => {
  const all = [0, 1, 2];
  const shape = pipeline(3, stage([0], null, all), stage([1], "tensor", all, all), stage([2], null, all));
  const programs = SCHEDULES.gpipe(shape);
  expect(programs.slice(1, 3).map((program) => line(program, true))).toEqual([
    "r0 F0 s0 r1 F1 r2 F2 s2 h0 B0 g0 h1 B1 h2 B2 g2",
    "r0 F0 r1 F1 s1 r2 F2 h0 B0 h1 B1 g1 h2 B2",
  ]);
});

test("members that take turns deal what they send among those behind", () => {
  const shape = pipeline(2, stage([0], "data", [0], [1]), stage([1], "data", [1], [0]));
  const programs = SCHEDULES["1f1b"](shape);
  expect(programs.map((program) => line(program, true))).toEqual([
    "F0 s0 h0 B0 R",
    "F1 s1 h1 B1 R",
    "r1 J1 g1 R",
    "r0 J0 g0 R",
  ]);
});

test("interleaved 1F1B, two stages of two chunks: the published order", () => {
  expect(SCHEDULES.interleaved(chainShape(2, 4, 0, 2)).map((program) => line(program))).toEqual([
    "F0.0 F1.0 F0.1 F1.1 F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0 B2.1 B3.1 B2.0 B3.0",
    "F0.0 F1.0 J0.1 J1.1 F2.0 B0.0 F3.0 B1.0 J2.1 J3.1 B2.0 B3.0",
  ]);
});

test("ZB-H1 on three stages: W waits the longer the later the stage, and its first stage has no use for it", () => {
  expect(SCHEDULES["zero-bubble"](chainShape(3, 4)).map((program) => line(program))).toEqual([
    "F0 F1 F2 B0 F3 B1 B2 B3",
    "F0 F1 I0 F2 I1 W0 F3 I2 W1 I3 W2 W3",
    "F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3",
  ]);
});

test("ZB-H1 where members take turns: B and W are apart for all of a stage, also for one who takes too little to be behind", () => {
  const shape = pipeline(
    6,
    stage([0], "data", [0, 2, 4], [1, 3, 5]),
    stage([1], "data", [0, 1, 2, 3, 4], [5]),
  );
  expect(SCHEDULES["zero-bubble"](shape).map((program) => line(program))).toEqual([
    "F0 F2 B0 F4 B2 B4 R",
    "F1 F3 B1 F5 B3 B5 R",
    "F0 I0 F1 I1 W0 F2 I2 W1 F3 I3 W2 F4 I4 W3 W4 R",
    "F5 I5 W5 R",
  ]);
});

test.each([2, 3, 4, 8, 16])("ZB-H1 on %i stages holds no more than the first stage of 1F1B", (stages) => {
  for (const m of [1, stages, 4 * stages]) {
    const most = (name: ScheduleName) =>
      Math.max(...SCHEDULES[name](chainShape(stages, m)).map((program) => peakInFlight(program)));
    expect(most("zero-bubble")).toBe(most("1f1b"));
  }
});

test("what a worker holds is told by chunk", () => {
  const [first] = SCHEDULES.interleaved(chainShape(2, 4, 0, 2));
  expect(peaksInFlight(first!)).toEqual([4, 2]);
  expect(peakInFlight(first!)).toBe(5);
});

describe("refuses", () => {
  test("chunks that are apart, where the schedule has no order for them", () => {
    for (const name of ["1f1b", "eager-1f1b", "zero-bubble", "pipedream"] as const) {
      expect(() => SCHEDULES[name](chainShape(2, 4, 0, 2))).toThrow(
        `${name} wants the chunks of a stage side by side, stage 0 holds positions 0, 2: use interleaved or gpipe`,
      );
    }
  });
  test("updates of members that update together", () => {
    for (const shared of [stage([0], "data", [0], [1]), stage([0], "tensor", [0, 1], [0, 1])]) {
      expect(() => SCHEDULES.pipedream(pipeline(2, shared))).toThrow(
        "pipedream updates after each micro-batch, the members of stage 0 share theirs and update once a step: use 1f1b",
      );
    }
  });
  const wrong: readonly (readonly [string, PipelineShape, string])[] = [
    ["a gap", pipeline(1, stage([0], null, [0]), stage([2], null, [0])), "no stage holds position 1"],
    [
      "a position held twice",
      pipeline(1, stage([0], null, [0]), stage([0], null, [0])),
      "stages 0 and 1 hold position 0",
    ],
    [
      "a micro-batch nobody takes",
      pipeline(3, stage([0], "data", [0], [2])),
      "micro-batch 1 of 3 is taken by nobody in stage 0",
    ],
    [
      "a micro-batch taken twice",
      pipeline(2, stage([0], "data", [0, 1], [1])),
      "micro-batch 1 of 2 is taken twice in stage 0",
    ],
    [
      "a micro-batch there is not",
      pipeline(2, stage([0], "data", [0, 1], [2])),
      "stage 0 takes micro-batch 2, there are 2",
    ],
    ["no stages at all", pipeline(1), "no stage holds position 0"],
  ];
  test.each(wrong)("%s", (_, shape, message) => {
    expect(() => SCHEDULES["1f1b"](shape)).toThrow(message);
  });
});
