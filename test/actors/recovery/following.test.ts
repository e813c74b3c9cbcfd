/**
 * Replicas that make copies by themselves, of a stage's gradients: what they have are the stage's own bits, and where that
 * cannot be, or a step is missing, they are given a copy.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { KeptWorker } from "../../../actors/recovery/kept-worker.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { type Clock, NodeRuntime } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";
import { Follower, TrainedStage } from "./followed.ts";

const NOTHING = { tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 };
const ADAMW = { ...DEFAULT_ADAMW, warmup: 2, steps: 100 };
const MOMENTUM: OptimizerConfig = {
  ...{ kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 0.1, clip: 0.5 },
  ...{ learningRate: 0.01, warmup: 2, steps: 100, floor: 0.1 },
};
let engine: Engine;
let node: NodeRuntime;
let ends: (() => void)[] = [];
beforeEach(() => {
  engine = createReferenceEngine();
  node = new NodeRuntime({ name: "node", log: () => {} });
  ends = [];
});
afterEach(async () => {
  for (const end of ends) end();
  await node.close();
  expect(engine.usage()).toEqual(NOTHING);
});

const trained = async (optimizer: OptimizerConfig): Promise<TrainedStage> => {
  const stage = await TrainedStage.open(engine, optimizer);
  ends.push(() => stage.executor.release());
  return stage;
};
const following = (own = engine) => Follower.open(node, own);

const copied = (values: Readonly<Record<string, Tensor>>) =>
  Object.fromEntries(
    Object.entries(values).map(([name, { dtype, shape, bytes }]) => [
      name,
      new Tensor(dtype, shape, bytes.slice()),
    ]),
  );

test.each([
  ["AdamW", ADAMW, 3],
  ["momentum", MOMENTUM, 2],
])("behind one copy a replica goes on by gradients, with %s", async (_, optimizer, gain) => {
  const stage = await trained(optimizer);
  const follower = await following();
  expect(await stage.give(-1, follower)).toBe(gain * stage.gradientBytes);
  let before = copied(await stage.state());
  for (let step = 0; step < 5; step++) {
    await stage.commit(step);
    expect(await stage.give(step, follower)).toBe(stage.gradientBytes);
    await follower.expectAt(step, await stage.state());
    // The run may have to go back.
    await follower.expectAt(step - 1, before);
    expect(await follower.steps()).toEqual([step - 1, step]);
    before = copied(await stage.state());
    await follower.keep(step);
    stage.keeping.copies.forgetBefore(step);
  }
  // Told once what updates are made from, and compared once.
  expect(follower.asked.filter((name) => name === "checksum")).toHaveLength(1);
});

test("what another graph has a part in is compared again", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  for (let step = 60; step < 66; step++) {
    await stage.commit(step);
    await stage.give(step, follower);
    await follower.expectAt(step, await stage.state());
    await follower.keep(step);
  }
  expect(follower.asked.filter((name) => name === "checksum")).toHaveLength(2);
});

test("steps in between are made as well, up to as many as would be a copy; then it is given one", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  await stage.give(-1, follower);
  const gone = async (from: number, to: number) => {
    for (let step = from; step <= to; step++) await stage.commit(step, step === to);
    const bytes = await stage.give(to, follower);
    await follower.expectAt(to, await stage.state());
    await follower.keep(to);
    return bytes / stage.gradientBytes;
  };
  expect(await gone(0, 1)).toBe(2);
  expect(await gone(2, 4)).toBe(3);
  follower.asked = [];
  // Four gradients would be more than a copy.
  expect(await gone(5, 8)).toBe(3);
  expect(follower.asked).not.toContain("advance");
  expect(await gone(9, 9)).toBe(1);
});

test("steps that are committed while it is given its first copy are made by gradients", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  const giving = stage.give(-1, follower);
  await stage.commit(0, false);
  await stage.commit(1);
  await giving;
  expect(await stage.give(1, follower)).toBe(2 * stage.gradientBytes);
  await follower.expectAt(1, await stage.state());
});

test("whoever does not come up with the steps that are committed meanwhile is given a copy", async () => {
  const stage = await trained(ADAMW);
  const [follower, other] = [await following(), await following()];
  await stage.give(-1, follower);
  await stage.commit(0);
  const reached = Promise.withResolvers<void>();
  follower.before = (name) => (name === "advance" ? reached.promise : undefined);
  const giving = stage.give(0, follower);
  for (let step = 1; step < 8; step++) {
    await stage.commit(step);
    // Gradients that nobody needs any more are written over.
    if (step > 4) await stage.give(step, other);
  }
  reached.resolve();
  expect(await giving).toBe(3 * stage.gradientBytes);
  expect(follower.asked.slice(-1)).toEqual(["complete"]);
  await other.expectAt(7, await stage.state());
  expect(await follower.steps()).toEqual([-1, 0]);
});

test.each([
  [true, "not behind the next commit, if they are to be followed"],
  [false, "as long as it takes, if not"],
])("copies make way for what steps wait for: %p, %s", async (follows) => {
  const stage = await trained(ADAMW);
  const follower = await following();
  let [now, rests, pieces] = [0, 0, 0];
  const clock = {
    now: () => now,
    sleep: async () => {
      rests++;
    },
  } as unknown as Clock;
  // Each piece takes longer than the one before: others want the line.
  follower.before = async (name) => {
    if (name === "put") now += 10 * 3 ** pieces++;
  };
  await stage.give(-1, follower, follows, clock);
  expect(rests).toBeGreaterThan(0);
  const polite = rests;
  [rests, pieces] = [0, 0];
  const other = await following();
  other.before = async (name) => {
    if (name !== "put") return;
    if (pieces === 0) await stage.commit(0);
    now += 10 * 3 ** pieces++;
  };
  await stage.give(-1, other, follows, clock);
  expect(rests).toBe(follows ? 0 : polite);
});

test("a replica that has lost what it had is given a copy", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  await stage.give(-1, follower);
  await stage.commit(0);
  await stage.give(0, follower);
  await follower.keep(5, []);
  expect(await follower.steps()).toEqual([]);
  await stage.commit(1);
  expect(await stage.give(1, follower)).toBe(3 * stage.gradientBytes);
  await follower.expectAt(1, await stage.state());
  await stage.commit(2);
  expect(await stage.give(2, follower)).toBe(stage.gradientBytes);
  await follower.expectAt(2, await stage.state());
});

test("a copy that is given up there while it comes is begun anew, and never there in part", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  // What a keeper has said that does not know of the worker yet.
  const givenUp = [2, 5];
  let pieces = 0;
  follower.before = async (name) => {
    if (name === "put" && givenUp.includes(pieces++)) await follower.keep(-1, []);
  };
  const values = await stage.state();
  const clock = { now: () => 0, sleep: async () => {} } as unknown as Clock;
  await stage.give(-1, follower, false, clock);
  expect(pieces).toBeGreaterThan(7);
  await follower.expectAt(-1, values);
  follower.before = async (name) => {
    if (name === "complete") await follower.keep(-1, []);
  };
  const other = stage.give(-1, follower, false, clock);
  expect((await failure(other)).message).toBe(
    "the copy of worker 1/0 after step 0 does not stay where it is given",
  );
  expect(await follower.steps()).toEqual([]);
});

test("of a copy that is forgotten while it comes the rest is not taken, though there is another one", async () => {
  const allocate = (dtype: "f32", shape: number[]) => ({
    tensor: Tensor.zeros(dtype, shape),
    release: () => {},
  });
  const kept = new KeptWorker({ allocate } as unknown as Engine);
  const half = (at: number) => [
    { name: "w", dtype: "f32" as const, shape: [2], at, bytes: new Uint8Array(4) },
  ];
  const copy = async (step: number) => [await kept.put(step, half(0), 0), await kept.put(step, half(4), 4)];
  expect(await copy(5)).toEqual([true, true]);
  expect(await kept.put(3, half(0), 0)).toBe(true);
  expect(kept.keep(4)).toBe(true);
  expect(await kept.put(3, half(4), 4)).toBe(false);
  expect(await copy(3)).toEqual([true, true]);
});

test.each(["putGradients", "advance", "checksum", "complete"])(
  "where %s does not come through there is no copy of the step, and then a whole one",
  async (message) => {
    const stage = await trained(ADAMW);
    const follower = await following();
    await stage.give(-1, follower);
    await stage.commit(0);
    follower.cut = message;
    expect((await failure(stage.give(0, follower))).message).toBe("the link is gone");
    expect(await follower.steps()).toEqual([-1]);
    follower.cut = undefined;
    await stage.commit(1);
    expect(await stage.give(1, follower)).toBe(3 * stage.gradientBytes);
    await follower.expectAt(1, await stage.state());
  },
);

test("a run that goes back makes its steps again, and so does who follows", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  await stage.give(-1, follower);
  await stage.commit(0);
  await stage.give(0, follower);
  const point = copied(await stage.state());
  await stage.commit(1);
  await stage.give(1, follower);
  // Back behind step 0: what is made there is another thing.
  stage.keeping.forgetAfter(0);
  await stage.executor.load(new Map(Object.entries(point)));
  stage.keeping.step = 0;
  await stage.commit(1, true, 1);
  await stage.give(1, follower);
  await follower.expectAt(1, await stage.state());
  await follower.expectAt(0, point);
  await stage.commit(2);
  expect(await stage.give(2, follower)).toBe(stage.gradientBytes);
  await follower.expectAt(2, await stage.state());
});

test("what is broken off leaves nothing to go on from", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  await stage.give(-1, follower);
  await stage.commit(0);
  const giving = stage.give(0, follower);
  stage.isOver = true;
  stage.keeping.forgetAfter(-1);
  expect((await failure(giving)).message).toContain("is given up");
  expect(await follower.steps()).toEqual([-1]);
});

test("a device that comes to other numbers is found out, and given copies from then on", async () => {
  const stage = await trained(ADAMW);
  const other = createReferenceEngine();
  const rounding: Engine = {
    name: other.name,
    allocate: (...args) => other.allocate(...args),
    usage: () => other.usage(),
    close: () => other.close(),
    compile: async (graph, options) => {
      const executable = await other.compile(graph, options);
      return {
        ...executable,
        bind: (feeds, fetches) => {
          const binding = executable.bind(feeds, fetches);
          const run = async () => {
            const ms = await binding.run();
            // One bit of one value.
            Object.values(fetches)[0]!.tensor.bytes[0]! ^= 1;
            return ms;
          };
          return { run, release: () => binding.release() };
        },
      };
    },
  };
  const follower = await following(rounding);
  await stage.give(-1, follower);
  for (let step = 0; step < 3; step++) {
    await stage.commit(step);
    follower.asked = [];
    const bytes = await stage.give(step, follower);
    await follower.expectAt(step, await stage.state());
    expect(bytes).toBe(3 * stage.gradientBytes);
    expect(follower.asked.includes("advance")).toBe(step === 0);
    await follower.keep(step);
  }
  await node.stop(follower.replica);
  expect(other.usage()).toEqual(NOTHING);
});

test("where nobody is to follow, nothing is kept for it, and copies are whole", async () => {
  const stage = await trained(ADAMW);
  const follower = await following();
  for (let step = 0; step < 3; step++) {
    await stage.commit(step);
    expect(await stage.give(step, follower, false)).toBe(3 * stage.gradientBytes);
    await follower.expectAt(step, await stage.state());
  }
  await stage.commit(3);
  expect(await stage.give(3, follower)).toBe(3 * stage.gradientBytes);
});

test("with an optimiser that keeps nothing, gradients are as large as copies, which are given then", async () => {
  const stage = await trained({ ...MOMENTUM, momentum: 0 } as OptimizerConfig);
  const follower = await following();
  for (let step = 0; step < 3; step++) {
    await stage.commit(step);
    expect(await stage.give(step, follower)).toBe(stage.gradientBytes);
  }
  expect(follower.asked).not.toContain("advance");
});
