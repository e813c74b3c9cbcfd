import { describe, expect, test } from "bun:test";
import {
  describe as describeOperation,
  isOfMicroBatch,
  type Operation,
  ProgramError,
  type StageProgram,
} from "../../../actors/scheduler/program.ts";
import { chainShape, gpipe, oneFOneB, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
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
      'worker 0 of stage 0: "forward 1" is missing',
    ],
    [
      "a message nobody sends",
      edit(oneFOneB(chainShape(2, 2)), 0, without("send-activation", 1)),
      'worker 0 of stage 0: "send-activation 1" is missing',
    ],
    [
      "a message nobody takes",
      edit(gpipe(chainShape(2, 2)), 0, without("receive-gradient", 0)),
      '"receive-gradient 0" is missing',
    ],
    [
      "work done twice",
      edit(gpipe(chainShape(2, 2)), 0, (ops) => [ops[0]!, ...ops]),
      'worker 0 of stage 0: "forward 0" occurs twice',
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
      'worker 0 of stage 0: "backward 1" accumulates out of order, gradients of micro-batch 0 come next',
    ],
    [
      "a backward before its forward",
      [{ worker: 0, stage: 0, positions: [0], operations: parse("backward 0, forward 0, step") }],
      'worker 0 of stage 0: "backward 0" comes before forward 0',
    ],
    [
      "a fused run in the middle",
      [
        { worker: 0, stage: 0, positions: [0], operations: parse("forward-backward 0, step") },
        { worker: 1, stage: 1, positions: [1], operations: parse("forward-backward 0, step") },
      ],
      'worker 0 of stage 0: "forward-backward 0" is possible at the last position only',
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
      'worker 0 of stage 0: "send-activation 0" has nobody on the other side',
    ],
    [
      "a program without a step",
      edit(gpipe(chainShape(1, 1)), 0, (ops) => ops.slice(0, -1)),
      'worker 0 of stage 0 must end with its only "step"',
    ],
    [
      "an early step",
      edit(gpipe(chainShape(1, 1)), 0, (ops) => [{ op: "step" }, ...ops]),
      'worker 0 of stage 0 must end with its only "step"',
    ],
    [
      "a gap in the positions",
      [{ ...gpipe(chainShape(1, 1))[0]!, positions: [1] }],
      "no stage holds position 0",
    ],
    [
      "stages in another order",
      [gpipe(chainShape(2, 1))[1]!, gpipe(chainShape(2, 1))[0]!],
      "program 0 belongs to worker 1",
    ],
    ["nothing at all", [], "there are no programs"],
  ];
  test.each(cases)("%s", (_, programs, message) => {
    expect(() => validatePrograms(programs)).toThrow(message);
    expect(() => validatePrograms(programs)).toThrow(ProgramError);
  });
});

describe("refuses of stages with several workers", () => {
  const stage = (positions: number[], sharing: "data" | "tensor" | null, ...members: number[][]) => ({
    ...{ positions, sharing, members },
  });
  const all = [0, 1, 2];
  const dealt = gpipe({
    ...{ microBatches: 3, forwardOnly: 0 },
    stages: [stage([0, 1], "data", [0, 2], [1]), stage([2], null, all)],
  });
  const together = gpipe({
    ...{ microBatches: 3, forwardOnly: 0 },
    stages: [stage([0], "tensor", all, all), stage([1], null, all)],
  });
  const asynchronous = SCHEDULES.pipedream(chainShape(2, 2));
  const editOf =
    (worker: number, change: (operations: Operation[]) => readonly Operation[]) => (own: typeof dealt) =>
      own.map((program) =>
        program.worker === worker ? { ...program, operations: change([...program.operations]) } : program,
      );
  const drop = (worker: number, text: string) =>
    editOf(worker, (own) => own.filter((each) => describeOperation(each) !== text));
  const insert = (worker: number, text: string, before = "step") =>
    editOf(worker, (own) =>
      own.toSpliced(
        own.findIndex((each) => describeOperation(each) === before),
        0,
        ...parse(text),
      ),
    );

  const cases: [string, readonly StageProgram[], string][] = [
    [
      "a sum that one of them leaves out",
      drop(1, "reduce of chunk 1")(dealt),
      'worker 1 of stage 0: "reduce of chunk 1" is missing',
    ],
    [
      "a sum before its last gradient",
      insert(1, "backward 1 0")(drop(1, "backward 1 of chunk 0")(dealt)),
      'worker 1 of stage 0: "backward 1 of chunk 0" comes after the reduce of its gradients',
    ],
    [
      "a sum of one",
      editOf(2, (own) => own.toSpliced(-1, 0, { op: "reduce" }))(dealt),
      'worker 2 of stage 1: "reduce" has nobody to add up with',
    ],
    [
      "a micro-batch of two workers",
      insert(1, "forward 2 0, forward 2 1, send-activation 2 1", "forward 1 of chunk 0")(dealt),
      "micro-batch 2 is taken by workers 0, 1 in stage 0",
    ],
    [
      "a message to itself",
      insert(1, "send-activation 1 0", "forward 1 of chunk 1")(dealt),
      'worker 1 of stage 0: "send-activation 1 of chunk 0" is to itself: position 1 is on the same worker',
    ],
    [
      "two who speak at once",
      insert(1, "send-activation 0", "receive-gradient 0")(together),
      'worker 1 of stage 0: "send-activation 0" is another worker\'s to send',
    ],
    [
      "one who does not listen",
      drop(1, "receive-gradient 1")(together),
      'worker 1 of stage 0: "receive-gradient 1" is missing',
    ],
    [
      "chunks in the wrong order",
      insert(
        1,
        "forward 1 1, forward 1 0",
        "send-activation 1 of chunk 1",
      )(drop(1, "forward 1 of chunk 1")(drop(1, "forward 1 of chunk 0")(dealt))),
      'worker 1 of stage 0: "forward 1 of chunk 1" comes before forward 1 of chunk 0, which it needs',
    ],
    [
      "a backward pass without its update",
      drop(0, "update 1")(asynchronous),
      'worker 0 of stage 0: "backward 1" has no update behind it, other backward passes do',
    ],
    [
      "an update before its gradients",
      insert(0, "update 1", "backward 1")(drop(0, "update 1")(asynchronous)),
      'worker 0 of stage 0: "update 1" is not behind the backward pass of its micro-batch',
    ],
    [
      "different positions",
      together.map((program) => (program.worker === 1 ? { ...program, positions: [2] } : program)),
      "workers of stage 0 hold different positions: 0 and 2",
    ],
  ];
  test.each(cases)("%s", (_, programs, message) => {
    expect(() => validatePrograms(programs)).toThrow(message);
    expect(() => validatePrograms(programs)).toThrow(ProgramError);
  });

  test("kernels in two orders, where they meet within each", () => {
    const otherwise = together.map((program) =>
      program.worker === 1
        ? {
            ...program,
            operations: parse(
              "forward 0, forward 1, send-activation 1, forward 2, receive-gradient 0, receive-gradient 1, " +
                "backward 0, backward 1, receive-gradient 2, backward 2, step",
            ),
          }
        : program,
    );
    const early = editOf(1, () =>
      parse(
        "forward 0, forward 1, send-activation 1, receive-gradient 0, backward 0, forward 2, " +
          "receive-gradient 1, backward 1, receive-gradient 2, backward 2, step",
      ),
    )(together);
    expect(() => validatePrograms(otherwise)).not.toThrow();
    expect(() => validatePrograms(early)).toThrow(
      'worker 1 of stage 0: "backward 0" meets "forward 2" of worker 0',
    );
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
  expect(() => validatePrograms(programs)).toThrow('worker 0 of stage 0: "receive-gradient 0" waits forever');
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
        "receive-activation 0 0, forward 0 0, forward 0 1, send-activation 0 1, receive-gradient 0 1, " +
          `backward-input 0 1, ${split(0, 0)}, ` +
          "backward-weight 0 1, backward-weight 0 0, step",
      ),
    },
  ];
  expect(() => validatePrograms(programs)).not.toThrow();
  expect(() =>
    validatePrograms(edit(programs, 1, (ops) => ops.filter((o) => o.op !== "backward-weight"))),
  ).toThrow('worker 1 of stage 1: "backward-weight 0 of chunk 0" is missing');
});
