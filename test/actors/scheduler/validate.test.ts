import { describe, expect, test } from "bun:test";
import {
  isOfMicroBatch,
  type Operation,
  ProgramError,
  type StageProgram,
} from "../../../actors/scheduler/program.ts";
import { chainShape, gpipe, oneFOneB } from "../../../actors/scheduler/schedule.ts";
import { validatePrograms } from "../../../actors/scheduler/validate.ts";

/** The programs with one stage's operations edited. */
function edit(
  programs: readonly StageProgram[],
  stage: number,
  change: (operations: Operation[]) => readonly Operation[],
): readonly StageProgram[] {
  return programs.map((p) => (p.stage === stage ? { ...p, operations: change([...p.operations]) } : p));
}

const without = (op: string, microBatch: number) => (operations: Operation[]) =>
  operations.filter((o) => !isOfMicroBatch(o) || o.op !== op || o.microBatch !== microBatch);

const parse = (text: string): Operation[] =>
  text.split(", ").map((part) => {
    const [op, microBatch, chunk] = part.split(" ");
    if (op === "step") return { op };
    const base = { op, microBatch: Number(microBatch) } as Operation;
    return chunk === undefined ? base : ({ ...base, chunk: Number(chunk) } as Operation);
  });

describe("refuses, naming stage and operation", () => {
  const cases: [string, readonly StageProgram[], string][] = [
    [
      "a missing forward",
      edit(oneFOneB(chainShape(2, 2)), 0, without("forward", 1)),
      'stage 0: "forward 1" is missing',
    ],
    [
      "a message nobody sends",
      edit(oneFOneB(chainShape(2, 2)), 0, without("send-activation", 1)),
      'stage 0: "send-activation 1" is missing',
    ],
    [
      "a message nobody takes",
      edit(gpipe(chainShape(2, 2)), 0, without("receive-gradient", 0)),
      '"receive-gradient 0" is missing',
    ],
    [
      "work done twice",
      edit(gpipe(chainShape(2, 2)), 0, (ops) => [ops[0]!, ...ops]),
      'stage 0: "forward 0" occurs twice',
    ],
    [
      "gradients accumulated in another order",
      [
        {
          worker: 0,
          stage: 0,
          positions: [0],
          operations: parse("forward 0, forward 1, backward 1, backward 0, step"),
        },
      ],
      'stage 0: "backward 1" accumulates out of order, gradients of micro-batch 0 come next',
    ],
    [
      "a backward before its forward",
      [{ worker: 0, stage: 0, positions: [0], operations: parse("backward 0, forward 0, step") }],
      'stage 0: "backward 0" comes before forward 0',
    ],
    [
      "a fused run in the middle",
      [
        { worker: 0, stage: 0, positions: [0], operations: parse("forward-backward 0, step") },
        { worker: 1, stage: 1, positions: [1], operations: parse("forward-backward 0, step") },
      ],
      'stage 0: "forward-backward 0" is possible at the last position only',
    ],
    [
      "a send from the end",
      [
        {
          worker: 0,
          stage: 0,
          positions: [0],
          operations: parse("forward 0, send-activation 0, backward 0, step"),
        },
      ],
      'stage 0: "send-activation 0" has nobody on the other side',
    ],
    [
      "a program without a step",
      edit(gpipe(chainShape(1, 1)), 0, (ops) => ops.slice(0, -1)),
      'stage 0 must end with its only "step"',
    ],
    [
      "an early step",
      edit(gpipe(chainShape(1, 1)), 0, (ops) => [{ op: "step" }, ...ops]),
      'stage 0 must end with its only "step"',
    ],
    [
      "a gap in the positions",
      [{ ...gpipe(chainShape(1, 1))[0]!, positions: [1] }],
      "no stage holds position 0",
    ],
    [
      "stages in another order",
      [gpipe(chainShape(2, 1))[1]!, gpipe(chainShape(2, 1))[0]!],
      "program 0 belongs to stage 1",
    ],
    ["nothing at all", [], "there are no programs"],
  ];
  test.each(cases)("%s", (_, programs, message) => {
    expect(() => validatePrograms(programs)).toThrow(message);
    expect(() => validatePrograms(programs)).toThrow(ProgramError);
  });
});

test("finds a deadlock: stages that wait for each other", () => {
  // Stage 0 wants micro-batch 0's gradient before it sends micro-batch 1, stage 1 wants both before it starts.
  const programs: StageProgram[] = [
    {
      worker: 0,
      stage: 0,
      positions: [0],
      operations: parse(
        "forward 0, send-activation 0, receive-gradient 0, backward 0, " +
          "forward 1, send-activation 1, receive-gradient 1, backward 1, step",
      ),
    },
    {
      worker: 1,
      stage: 1,
      positions: [1],
      operations: parse(
        "receive-activation 0, receive-activation 1, forward 0, backward 0, send-gradient 0, " +
          "forward 1, backward 1, send-gradient 1, step",
      ),
    },
  ];
  expect(() => validatePrograms(programs)).toThrow('stage 0: "receive-gradient 0" waits forever');
});

test("accepts B and W apart, and several chunks per stage", () => {
  // Two stages in a V: stage 0 holds the first and the last position, stage 1 the two in between.
  const split = (m: number, chunk: number) => `backward-input ${m} ${chunk}, send-gradient ${m} ${chunk}`;
  const programs: StageProgram[] = [
    {
      worker: 0,
      stage: 0,
      positions: [0, 3],
      operations: parse(
        `forward 0 0, send-activation 0 0, receive-activation 0 1, forward 0 1, ${split(0, 1)}, ` +
          "receive-gradient 0 0, backward 0 0, backward-weight 0 1, step",
      ),
    },
    {
      worker: 1,
      stage: 1,
      positions: [1, 2],
      operations: parse(
        "receive-activation 0 0, forward 0 0, send-activation 0 0, receive-activation 0 1, forward 0 1, " +
          `send-activation 0 1, receive-gradient 0 1, ${split(0, 1)}, receive-gradient 0 0, ${split(0, 0)}, ` +
          "backward-weight 0 1, backward-weight 0 0, step",
      ),
    },
  ];
  expect(() => validatePrograms(programs)).not.toThrow();
  expect(() =>
    validatePrograms(edit(programs, 1, (ops) => ops.filter((o) => o.op !== "backward-weight"))),
  ).toThrow('stage 1: "backward-weight 0 of chunk 0" is missing');
});
