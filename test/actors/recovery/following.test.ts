/**
 * Replicas that make copies by themselves, of a stage's gradients: what they have are the stage's own bits, and where that
 * cannot be, or a step is missing, they are given a copy.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { Replica } from "../../../actors/recovery/replica.ts";
import type { Chunk } from "../../../actors/stage/chunk.ts";
import { followable } from "../../../actors/stage/followable.ts";
import { Keeping } from "../../../actors/stage/keeping.ts";
import { bytesOf } from "../../../actors/stage/spec.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { type Clock, NodeRuntime, type Ref, seededRandom, VirtualClock } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";

const NOTHING = { tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 };
const WORKER = "1/0";
const ADAMW = { ...DEFAULT_ADAMW, warmup: 2, steps: 100 };
const MOMENTUM: OptimizerConfig = {
  ...{ kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 0.1, clip: 0.5 },
  ...{ learningRate: 0.01, warmup: 2, steps: 100, floor: 0.1 },
};
const MODEL = gptModel({ layers: 1, width: 8, heads: 2, context: 4, vocabulary: 64 }, 2);
const GRAPHS = trainingGraphs(MODEL.graph, MODEL, {
  ...{ input: null, output: null, microBatches: 1, recompute: false },
});
const SPEC = {
  ...{ generation: 1, program: { worker: 0, stage: 0, positions: [0], operations: [] } },
  group: { sharing: null, rank: 0, workers: [0], shares: [1], dealt: "" },
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

/** A stage's values, how they come to be, and how they are kept. */
class TrainedStage {
  readonly keeping: Keeping;
  readonly executor: StageExecutor;
  isOver = false;

  private constructor(executor: StageExecutor) {
    this.executor = executor;
    this.keeping = new Keeping(() => this.state());
  }

  static async open(optimizer: OptimizerConfig): Promise<TrainedStage> {
    const executor = await StageExecutor.create(engine, GRAPHS, {
      ...{ slots: 1, optimizer, totalParameters: GRAPHS.parameters.length },
    });
    ends.push(() => executor.release());
    const values = await Promise.all(
      GRAPHS.parameters.map(async ({ name }) => [name, await MODEL.initial(name, 1)] as const),
    );
    await executor.load(new Map(values));
    const stage = new TrainedStage(executor);
    const follows = followable([{ executor } as unknown as Chunk], SPEC.program);
    const state = await stage.state();
    const holds = { changing: Object.keys(state), changingBytes: bytesOf(state), cuts: {} };
    stage.keeping.describe(SPEC, holds, follows);
    await stage.keeping.keep(-1);
    return stage;
  }

  async state(): Promise<Record<string, Tensor>> {
    return Object.fromEntries(await this.executor.tensors());
  }

  /** Bytes of a step's gradients. */
  get gradientBytes(): number {
    return GRAPHS.parameters.reduce((sum, { shape }) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
  }

  /** @param variant of the gradients that are drawn. */
  async commit(step: number, keeps = true, variant = 0): Promise<void> {
    for (const [i, { name, shape }] of GRAPHS.parameters.entries()) {
      const random = seededRandom(10_000 * variant + 100 * (step + 1) + i);
      const gradient = Tensor.zeros("f32", shape);
      for (const at of gradient.f32().keys()) gradient.f32()[at] = random.next() - 0.5;
      await this.executor.putGradient(name, gradient);
    }
    const squareSums = Tensor.f32([GRAPHS.parameters.length], await this.executor.squareSums());
    await this.keeping.committing(step, squareSums);
    await this.executor.update(step, squareSums.f32());
    this.keeping.step = step;
    if (keeps) await this.keeping.keep(step);
  }

  /** @returns bytes. */
  give(step: number, to: Follower, follows = true, clock: Clock = new VirtualClock()): Promise<number> {
    const isOver = () => this.isOver;
    return this.keeping.give(WORKER, step, [to.ref], follows, isOver, clock);
  }
}

/** A replica, and how a stage reaches it. */
class Follower {
  /** What was asked of it, without what pieces held. */
  asked: string[] = [];
  /** As the stage has it. */
  readonly ref: Ref<Replica>;
  /** What does not come through any more. */
  cut: string | undefined;
  /** What has to be before a message goes there. */
  before: (name: string) => Promise<void> | undefined = () => undefined;
  readonly replica: Ref<Replica>;

  private constructor(replica: Ref<Replica>) {
    this.replica = replica;
    const asks = replica.ask as Readonly<Record<string, any>>;
    const ask = new Proxy(asks, {
      get:
        (_, name: string) =>
        async (...args: unknown[]) => {
          if (name === this.cut) throw new Error("the link is gone");
          await this.before(name);
          this.asked.push(name);
          return asks[name](...args);
        },
    });
    this.ref = { key: replica.key, ask } as unknown as Ref<Replica>;
  }

  static async open(own = engine): Promise<Follower> {
    return new Follower(await node.spawn(Replica, [own]));
  }

  /** Whether it has what the stage holds, as of a step. */
  async expectAt(step: number, values: Readonly<Record<string, Tensor>>): Promise<void> {
    const names = Object.keys(values);
    const copy = await this.replica.ask.recall(WORKER, step, names);
    for (const name of names) expect(copy[name]!.bytes, name).toEqual(values[name]!.bytes);
  }

  async keep(step: number, workers = [WORKER]): Promise<void> {
    await this.replica.ask.keep(step, workers);
  }

  async steps(): Promise<readonly number[]> {
    return (await this.replica.ask.kept())[0]?.steps ?? [];
  }
}

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
  const stage = await TrainedStage.open(optimizer);
  const follower = await Follower.open();
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
  for (let step = 60; step < 66; step++) {
    await stage.commit(step);
    await stage.give(step, follower);
    await follower.expectAt(step, await stage.state());
    await follower.keep(step);
  }
  expect(follower.asked.filter((name) => name === "checksum")).toHaveLength(2);
});

test("steps in between are made as well, up to as many as would be a copy; then it is given one", async () => {
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
  const giving = stage.give(-1, follower);
  await stage.commit(0, false);
  await stage.commit(1);
  await giving;
  expect(await stage.give(1, follower)).toBe(2 * stage.gradientBytes);
  await follower.expectAt(1, await stage.state());
});

test("whoever does not come up with the steps that are committed meanwhile is given a copy", async () => {
  const stage = await TrainedStage.open(ADAMW);
  const [follower, other] = [await Follower.open(), await Follower.open()];
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
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
  const other = await Follower.open();
  other.before = async (name) => {
    if (name !== "put") return;
    if (pieces === 0) await stage.commit(0);
    now += 10 * 3 ** pieces++;
  };
  await stage.give(-1, other, follows, clock);
  expect(rests).toBe(follows ? 0 : polite);
});

test("a replica that has lost what it had is given a copy", async () => {
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
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

test.each(["putGradients", "advance", "checksum", "complete"])(
  "where %s does not come through there is no copy of the step, and then a whole one",
  async (message) => {
    const stage = await TrainedStage.open(ADAMW);
    const follower = await Follower.open();
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
  await stage.give(-1, follower);
  await stage.commit(0);
  const giving = stage.give(0, follower);
  stage.isOver = true;
  stage.keeping.forgetAfter(-1);
  expect((await failure(giving)).message).toContain("is given up");
  expect(await follower.steps()).toEqual([-1]);
});

test("a device that comes to other numbers is found out, and given copies from then on", async () => {
  const stage = await TrainedStage.open(ADAMW);
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
  const follower = await Follower.open(rounding);
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
  const stage = await TrainedStage.open(ADAMW);
  const follower = await Follower.open();
  for (let step = 0; step < 3; step++) {
    await stage.commit(step);
    expect(await stage.give(step, follower, false)).toBe(3 * stage.gradientBytes);
    await follower.expectAt(step, await stage.state());
  }
  await stage.commit(3);
  expect(await stage.give(3, follower)).toBe(3 * stage.gradientBytes);
});

test("with an optimiser that keeps nothing, gradients are as large as copies, which are given then", async () => {
  const stage = await TrainedStage.open({ ...MOMENTUM, momentum: 0 } as OptimizerConfig);
  const follower = await Follower.open();
  for (let step = 0; step < 3; step++) {
    await stage.commit(step);
    expect(await stage.give(step, follower)).toBe(stage.gradientBytes);
  }
  expect(follower.asked).not.toContain("advance");
});
