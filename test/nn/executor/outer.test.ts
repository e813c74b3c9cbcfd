/** Meetings of members that train on their own, against PyTorch's SGD with Nesterov's momentum and against no meeting at all. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { rolesOf } from "../../../nn/model.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { DILOCO, type OuterConfig, outerStateNames, startName } from "../../../nn/optim/outer.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { LocalRanks } from "../../actors/collectives/local.ts";
import fixture from "../../fixtures/outer.json";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

type Name = keyof typeof fixture.shapes;
const NAMES = Object.keys(fixture.shapes) as Name[];
type Numbers = Readonly<Record<Name, readonly number[]>>;
const tensors = (values: Numbers) =>
  new Map(NAMES.map((name) => [name, Tensor.f32(fixture.shapes[name], values[name])]));

/** loss = Σ (x·w + b) + Σ tall, over x f32 [2, 3]. */
function member(outer?: OuterConfig): Promise<StageExecutor> {
  const b = new GraphBuilder("line");
  const x = b.input("x", "f32", [2, 3]);
  const [w, c, tall] = NAMES.map((name) => b.input(name, "f32", fixture.shapes[name]));
  const sums = [b.op("Gemm", [x, w!, c!]), tall!].map((y) => b.op("ReduceSum", [y], { keepdims: 0 }));
  b.output(b.op("Add", sums, {}, "loss"));
  const graphs = trainingGraphs(b.build(), (name) => name !== "x", {
    ...{ input: null, output: null, microBatches: 1, recompute: false },
  });
  const optimizer = { ...DEFAULT_ADAMW, steps: 10 };
  return StageExecutor.create(engine, graphs, {
    ...{ slots: 1, optimizer, totalParameters: NAMES.length },
    ...(outer ? { outer } : {}),
  });
}

async function expectClose(executor: StageExecutor, want: Numbers): Promise<void> {
  const got = await executor.tensors(NAMES);
  for (const name of NAMES) {
    got
      .get(name)!
      .f32()
      .forEach((value, i) => {
        expect(Math.abs(value - want[name][i]!), `${name}[${i}]`).toBeLessThan(1e-6);
      });
  }
}

/** Leaves its parameters as its own steps would have. */
async function move(executor: StageExecutor, local: Numbers): Promise<void> {
  const start = await executor.tensors(NAMES.map(startName));
  await executor.put(new Map([...tensors(local), ...start]));
}

/** Each is given its share of the work. */
async function meet(
  members: readonly StageExecutor[],
  shares: readonly number[],
  key: string,
): Promise<void> {
  const { collectives } = new LocalRanks(members.length);
  await Promise.all(
    members.map(async (executor, rank) => {
      await executor.pseudoGradients(shares[rank]!);
      await executor.reduce(key, collectives[rank]!);
      await executor.outerStep();
    }),
  );
}

const outer: OuterConfig = { learningRate: fixture.rate, momentum: fixture.momentum };

describe("members that meet", () => {
  test("go PyTorch's step from where they last met, by the mean of what they have moved", async () => {
    expect(outer).toEqual(DILOCO);
    const members = await Promise.all(fixture.shares.map(() => member(outer)));
    try {
      for (const executor of members) await executor.load(tensors(fixture.start));
      for (const [i, { local, after }] of fixture.meetings.entries()) {
        for (const [rank, executor] of members.entries()) await move(executor, local[rank]!);
        await meet(members, fixture.shares, `meeting ${i}`);
        for (const executor of members) {
          await expectClose(executor, after);
          expect([...(await executor.squareSums())]).toEqual([0, 0, 0]);
        }
      }
    } finally {
      for (const executor of members) executor.release();
    }
    expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
  });

  test("go on from a checkpoint, in whatever order its parts come", async () => {
    const [{ local, after }, next] = fixture.meetings as [
      (typeof fixture.meetings)[0],
      (typeof fixture.meetings)[0],
    ];
    const members: StageExecutor[] = [];
    try {
      for (let rank = 0; rank < 2; rank++) members.push(await member(outer));
      for (const executor of members) await executor.load(tensors(fixture.start));
      for (const [rank, executor] of members.entries()) await move(executor, local[rank]!);
      await meet(members, fixture.shares, "before");
      await expectClose(members[0]!, after);
      const saved = await members[0]!.tensors();
      const names = NAMES.flatMap((name) => outerStateNames({ name }));
      expect([...saved.keys()]).toEqual(expect.arrayContaining(names));

      for (const order of [names, [...names].reverse()]) {
        const restored = [await member(outer), await member(outer)];
        members.push(...restored);
        for (const [rank, executor] of restored.entries()) {
          const state = order.map((name) => [name, saved.get(name)!] as const);
          const own = [...tensors(next.local[rank]!)];
          // State first, then parameters; or the other way round.
          const parts = order === names ? [state, own] : [own, state];
          for (const part of parts) await executor.put(new Map(part));
        }
        await meet(restored, fixture.shares, "after");
        await expectClose(restored[0]!, next.after);
      }
    } finally {
      for (const executor of members) executor.release();
    }
  });

  test("alone, at full rate and without momentum, are as if they had not met", async () => {
    const executor = await member({ learningRate: 1, momentum: 0 });
    try {
      const { start, meetings } = fixture;
      await executor.load(tensors(start));
      await move(executor, meetings[0]!.local[0]!);
      await meet([executor], [1], "alone");
      await expectClose(executor, meetings[0]!.local[0]!);
    } finally {
      executor.release();
    }
  });

  test("count a parameter that is used twice once", async () => {
    const b = new GraphBuilder("tied");
    const [w, v] = ["w", "v"].map((name) => b.input(name, "f32", [2]));
    b.output(b.op("ReduceSum", [b.op("Mul", [w!, v!])], { keepdims: 0 }, "loss"));
    const roles = { ...rolesOf(["w", "v"]), ties: { v: "w" } };
    const graphs = trainingGraphs(b.build(), roles, {
      ...{ input: null, output: null, microBatches: 1, recompute: false },
    });
    const executor = await StageExecutor.create(engine, graphs, {
      ...{ slots: 1, optimizer: { ...DEFAULT_ADAMW, steps: 10 }, totalParameters: 2 },
      outer: { learningRate: 1, momentum: 0 },
    });
    try {
      await executor.load(new Map([["w", Tensor.f32([2], [1, 2])]]));
      const start = await executor.tensors(["start.w"]);
      await executor.put(new Map([["w", Tensor.f32([2], [4, 6])], ...start]));
      await meet([executor], [1], "tied");
      const [now, then] = [
        await executor.tensors(["w", "v"]),
        await executor.tensors(["start.w", "start.v"]),
      ];
      for (const tensor of [...now.values(), ...then.values()]) expect([...tensor.f32()]).toEqual([4, 6]);
    } finally {
      executor.release();
    }
  });

  test("have an outer optimiser, or do not meet", async () => {
    const executor = await member();
    try {
      expect(() => executor.pseudoGradients(1)).toThrow("stage line has no outer optimiser");
      expect(executor.outerStep()).rejects.toThrow("stage line has no outer optimiser");
    } finally {
      executor.release();
    }
  });
});
