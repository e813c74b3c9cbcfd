/** The simulator on pipelines of any shape: closed forms where there are any, bounds where there are none. */

import { describe, expect, test } from "bun:test";
import {
  isBackward,
  isOfMicroBatch,
  ProgramError,
  peakInFlight,
  type StageProgram,
} from "../../../actors/scheduler/program.ts";
import type { ChunkCost, RunCost } from "../../../actors/scheduler/run-cost.ts";
import {
  chainShape,
  type PipelineShape,
  SCHEDULES,
  type ScheduleName,
} from "../../../actors/scheduler/schedule.ts";
import { predict, simulate } from "../../../actors/scheduler/simulate.ts";
import { seededRandom } from "../../../runtime/random.ts";
import { chunk, equalCost, runCost } from "./costs.ts";
import { ALLOWED, randomShape } from "./shapes.ts";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("bubbles, with free messages", () => {
  const stages = range(15).map((i) => i + 2);

  test.each(stages)(
    "ZB-H1 on %i stages, F = B = W: a third of what 1F1B has, in the same memory",
    (count) => {
      const shape = chainShape(count, 4 * count);
      const idle = (name: ScheduleName) => predict(SCHEDULES[name](shape), equalCost(count, 1, 2)).idleMs;
      const [ours, theirs] = [idle("zero-bubble"), idle("1f1b")];
      for (const [stage, ms] of ours.entries()) {
        expect(ms).toBe(count - 1);
        expect(3 * ms).toBeLessThanOrEqual(theirs[stage]!);
      }
      const peak = (name: ScheduleName) => Math.max(...SCHEDULES[name](shape).map(peakInFlight));
      expect(peak("zero-bubble")).toBe(peak("1f1b"));
    },
  );

  test.each([2, 3, 4, 8])("interleaved 1F1B on %i stages: v chunks have a v-th of the bubble", (count) => {
    for (const chunks of [1, 2, 3, 4]) {
      for (const rounds of [1, 2, 4]) {
        const one = chunk({ forwardMs: 12 / chunks, backwardMs: 24 / chunks });
        const cost = runCost(range(count).map(() => range(chunks).map(() => one)));
        const { idleMs, makespanMs } = predict(
          SCHEDULES.interleaved(chainShape(count, rounds * count, 0, chunks)),
          cost,
        );
        expect(makespanMs).toBeCloseTo(36 * rounds * count + ((count - 1) * 36) / chunks, 9);
        for (const idle of idleMs) expect(idle).toBeCloseTo(((count - 1) * 36) / chunks, 9);
      }
    }
  });
});

const dealt = (chunks: number, members: readonly (readonly number[])[]): PipelineShape => ({
  microBatches: members.flat().length,
  forwardOnly: 0,
  stages: [{ positions: range(chunks), sharing: "data", members }],
});

describe("data parallelism", () => {
  const link = { latencyMs: 1, bytesPerMs: 100 };
  const all = { link: () => link };

  test("sums of gradients go on while the chunks in front go backward, one after the other", () => {
    const one = chunk({ forwardMs: 2, backwardMs: 4, stepMs: 1, gradientBytes: 400 });
    const programs = SCHEDULES["1f1b"](
      dealt(3, [
        [0, 1],
        [2, 3],
      ]),
    );
    const { spans, makespanMs, gateMs } = simulate(programs, {
      chunks: [
        [one, one, one],
        [one, one, one],
      ],
      ...all,
    });
    // 18 ms a micro-batch; the second's backward passes end at 28, 32, 36, and each sum takes 4 + 1 ms.
    const sums = spans.filter(({ worker, operation }) => worker === 0 && operation.op === "reduce");
    expect(sums.map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [28, 33],
      [33, 38],
      [38, 43],
    ]);
    expect(gateMs).toBe(43);
    expect(makespanMs).toBe(43 + 3);
  });

  test("the slowest member is waited for", () => {
    const of = (ms: number) => [chunk({ forwardMs: ms, backwardMs: ms, gradientBytes: 200 })];
    const { gateMs } = predict(SCHEDULES["1f1b"](dealt(1, [[0], [1]])), { chunks: [of(3), of(10)], ...all });
    expect(gateMs).toBe(20 + 2 + 1);
  });

  test("what no operation adds up is added up before the gate", () => {
    const one = [chunk({ forwardMs: 1, backwardMs: 1, gradientBytes: 200 })];
    const shape = dealt(1, [[0], [1]]);
    const local = {
      ...shape,
      stages: shape.stages.map((stage) => ({ ...stage, sharing: "local" as const })),
    };
    expect(predict(SCHEDULES["1f1b"](local), { chunks: [one, one], ...all }).gateMs).toBe(2 + 2 + 1);
    const rare = [{ ...one[0]!, sumEvery: 4 }];
    expect(predict(SCHEDULES["1f1b"](local), { chunks: [rare, rare], ...all }).gateMs).toBe(2 + (2 + 1) / 4);
  });
});

describe("work shared inside micro-batches", () => {
  const shape: PipelineShape = {
    ...{ microBatches: 1, forwardOnly: 0 },
    stages: [{ positions: [0], sharing: "tensor", members: [[0], [0]] }],
  };
  const link = () => ({ latencyMs: 1, bytesPerMs: 100 });
  const bytes = 200;

  test("collectives cut a pass evenly, and everybody waits for the slowest at each", () => {
    const of = (forwardMs: number) => [
      chunk({
        ...{ forwardMs, backwardMs: 6 },
        forwardCollectives: range(2).map(() => ({ op: "all-gather" as const, bytes })),
        backwardCollectives: [{ op: "all-reduce", bytes }],
      }),
    ];
    const { spans, collectives, idleMs } = simulate(SCHEDULES["1f1b"](shape), {
      chunks: [of(3), of(9)],
      link,
    });
    // Pieces of 1 and of 3 ms, each gathered in 1 + 1 ms, then of 3 and 3 with 2 + 1 between them.
    expect(
      collectives.filter(({ worker }) => worker === 0).map(({ startMs, endMs }) => [startMs, endMs]),
    ).toEqual([
      [3, 5],
      [8, 10],
      [16, 19],
    ]);
    expect(spans[0]).toMatchObject({ operation: { op: "forward-backward" }, startMs: 0, endMs: 22 });
    expect(idleMs).toEqual([22 - 9, 22 - 15]);
  });
});

test("asynchronous updates cost what the step costs else", () => {
  const cost = runCost([[chunk({ forwardMs: 1, backwardMs: 2, stepMs: 4 })]]);
  expect(predict(SCHEDULES.pipedream(chainShape(1, 3)), cost).makespanMs).toBe(3 * (1 + 2 + 4));
  expect(predict(SCHEDULES["1f1b"](chainShape(1, 3)), cost).makespanMs).toBe(3 * (1 + 2) + 4);
});

describe("of any shape", () => {
  const NAMES = Object.keys(SCHEDULES) as ScheduleName[];

  /** Costs by chance; all ranks of a stage have the same collectives. */
  function randomCost(seed: number, programs: readonly StageProgram[], shape: PipelineShape): RunCost {
    const random = seededRandom(seed);
    const collectives = shape.stages.map(({ positions }) =>
      positions.map(() =>
        range(random.integer(3)).map(() => ({ op: "all-gather" as const, bytes: random.integer(50) })),
      ),
    );
    const chunks = programs.map(({ stage, positions }) =>
      positions.map(
        (_, at): ChunkCost => ({
          ...{ forwardMs: random.next(), backwardMs: random.next(), stepMs: random.next() },
          ...{ outputBytes: random.integer(50), gradientBytes: random.integer(50) },
          ...{ forwardCollectives: collectives[stage]![at]!, backwardCollectives: collectives[stage]![at]! },
        }),
      ),
    );
    const links = programs.map(() =>
      programs.map(() => ({ latencyMs: random.next() / 4, bytesPerMs: 10 + random.integer(500) })),
    );
    return {
      chunks,
      link: (from, to) => links[from]![to]!,
      ...(random.integer(3) === 0 ? { cores: 1 + random.integer(programs.length) } : {}),
      ...(random.integer(2) === 0
        ? {
            interfaces: programs.map(() => ({
              machine: random.integer(programs.length),
              ...{ upBytesPerMs: 10 + random.integer(500), downBytesPerMs: 10 + random.integer(500) },
            })),
          }
        : {}),
    };
  }

  /** Kernels of a worker, without its last step. */
  function workMs({ operations }: StageProgram, own: readonly ChunkCost[]): number {
    return operations.reduce((sum, operation) => {
      if (!isOfMicroBatch(operation))
        return sum + (operation.op === "update" ? own[operation.chunk ?? 0]!.stepMs : 0);
      const { forwardMs, backwardMs } = own[operation.chunk ?? 0]!;
      const both = { forward: forwardMs, backward: backwardMs, "forward-backward": forwardMs + backwardMs };
      const halves = { "backward-input": backwardMs / 2, "backward-weight": backwardMs / 2 };
      return sum + ({ ...both, ...halves }[operation.op as string] ?? 0);
    }, 0);
  }

  test.each(NAMES)("%s takes at least what its busiest worker and its longest micro-batch do", (name) => {
    for (let seed = 0; seed < 80; seed++) {
      const shape = randomShape(seed, ALLOWED[name]);
      const programs = SCHEDULES[name](shape);
      const cost = randomCost(seed, programs, shape);
      const result = simulate(programs, cost);
      const busiest = Math.max(...programs.map((program, worker) => workMs(program, cost.chunks[worker]!)));
      expect(result.gateMs).toBeGreaterThan(busiest - 1e-9);
      expect(result.gateMs).toBeGreaterThan(Math.max(...criticalPaths(programs, cost, shape)) - 1e-9);
      // Everything has happened, in order, and one thing at a time on each worker.
      for (const program of programs) {
        let free = 0;
        for (const span of result.spans.filter(({ worker }) => worker === program.worker)) {
          expect(span.endMs).toBeGreaterThanOrEqual(span.startMs);
          if (!isOfMicroBatch(span.operation) || span.operation.op.startsWith("send-")) continue;
          expect(span.startMs).toBeGreaterThan(free - 1e-9);
          free = span.endMs;
        }
      }
      expect(simulate(programs, cost)).toEqual(result);
    }
  });

  /** Of each micro-batch: down through all positions and back up, messages included, nobody in its way. */
  function criticalPaths(programs: readonly StageProgram[], cost: RunCost, shape: PipelineShape): number[] {
    const holders = shape.stages.flatMap(({ positions }, stage) =>
      positions.map((position) => ({ position, stage })),
    );
    const order = holders.sort((a, b) => a.position - b.position).map(({ stage }) => stage);
    return range(shape.microBatches).map((microBatch) => {
      const taker = (position: number) => {
        const takes = programs.filter(
          ({ stage, operations }) =>
            stage === order[position] &&
            operations.some((operation) => "microBatch" in operation && operation.microBatch === microBatch),
        );
        return takes[microBatch % takes.length]!;
      };
      let ms = 0;
      for (const position of order.keys()) {
        const own = taker(position);
        const at = own.positions.indexOf(position);
        const { forwardMs, backwardMs, outputBytes } = cost.chunks[own.worker]![at]!;
        const split = own.operations.some(({ op }) => op === "backward-input");
        ms += forwardMs + (position < shape.forwardOnly ? 0 : split ? backwardMs / 2 : backwardMs);
        if (position + 1 === order.length || order[position + 1] === order[position]) continue;
        const link = cost.link(own.worker, taker(position + 1).worker);
        ms += link.latencyMs + outputBytes / link.bytesPerMs;
      }
      return ms;
    });
  }
});

describe("programs that do not fit together", () => {
  const programs = SCHEDULES["1f1b"](dealt(1, [[0], [1]]));
  const cost = equalCost(2, 1, 1);
  const without = (worker: number, op: string, given: readonly StageProgram[]) =>
    given.map((program) =>
      program.worker === worker
        ? { ...program, operations: program.operations.filter((each) => each.op !== op) }
        : program,
    );
  const chained = SCHEDULES["1f1b"](chainShape(2, 1));

  test("are told by who waits forever", () => {
    expect(() => predict(without(1, "reduce", programs), cost)).toThrow(
      'worker 0 of stage 0: "step" waits forever: nobody does what it waits for',
    );
    expect(() => predict(without(0, "send-activation", chained), cost)).toThrow(
      'worker 0 of stage 0: "receive-gradient 0" waits forever',
    );
    expect(() => predict(without(0, "send-activation", chained), cost)).toThrow(ProgramError);
  });
  test("or by whose message nobody takes", () => {
    expect(() => predict(without(1, "receive-activation", chained), cost)).toThrow(
      'worker 0 of stage 0: "send-activation 0" is for nobody',
    );
  });
  test("a cost that lacks a chunk is named", () => {
    expect(() => predict(chained, equalCost(1, 1, 1))).toThrow("the cost model has no chunk 0 of worker 1");
  });
});

test("thousands of devices, deterministically", () => {
  const members = range(2048).map((rank) => [rank]);
  const programs = SCHEDULES["1f1b"](dealt(4, members));
  const one = chunk({ forwardMs: 1, backwardMs: 2, stepMs: 1, gradientBytes: 4096 });
  const cost = {
    chunks: programs.map(() => range(4).map(() => one)),
    link: () => ({ latencyMs: 0.01, bytesPerMs: 1000 }),
  };
  const { makespanMs, gateMs } = predict(programs, cost);
  // 6 ms until the last chunk's gradients are there, then four sums in a row; the others wait behind the first. In each,
  // half of the bytes goes four ways from whoever is in the middle, and waits on 11 hops up and 11 down.
  expect(gateMs).toBeCloseTo(4 + 2 + 4 * (2 * 4.096 + 22 * (2.048 + 0.01)), 6);
  expect(makespanMs).toBeCloseTo(gateMs + 4, 9);
  expect(programs.some(({ operations }) => operations.some(isBackward))).toBe(true);
});
