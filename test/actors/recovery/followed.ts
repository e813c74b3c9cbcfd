/** A stage whose gradients are drawn and not computed, and a replica that follows it. For tests. */

import { expect } from "bun:test";
import { Replica } from "../../../actors/recovery/replica.ts";
import type { Chunk } from "../../../actors/stage/chunk.ts";
import { followable } from "../../../actors/stage/followable.ts";
import { Keeping } from "../../../actors/stage/keeping.ts";
import { bytesOf } from "../../../actors/stage/spec.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import {
  type Clock,
  type NodeRuntime,
  type Ref,
  seededRandom,
  VirtualClock,
} from "../../../runtime/index.ts";

/** What the replica knows it by. */
export const WORKER = "1/0";
const MODEL = gptModel({ layers: 1, width: 8, heads: 2, context: 4, vocabulary: 64 }, 2);
const GRAPHS = trainingGraphs(MODEL.graph, MODEL, {
  ...{ input: null, output: null, microBatches: 1, recompute: false },
});
const SPEC = {
  ...{ generation: 1, program: { worker: 0, stage: 0, positions: [0], operations: [] } },
  group: { sharing: null, rank: 0, workers: [0], shares: [1], dealt: "" },
};

/** A stage's values, how they come to be, and how they are kept. */
export class TrainedStage {
  readonly keeping: Keeping;
  readonly executor: StageExecutor;
  isOver = false;

  private constructor(executor: StageExecutor) {
    this.executor = executor;
    this.keeping = new Keeping(() => this.state());
  }

  /** Its executor is the caller's to release. */
  static async open(engine: Engine, optimizer: OptimizerConfig): Promise<TrainedStage> {
    const executor = await StageExecutor.create(engine, GRAPHS, {
      ...{ slots: 1, optimizer, totalParameters: GRAPHS.parameters.length },
    });
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
export class Follower {
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

  static async open(node: NodeRuntime, engine: Engine): Promise<Follower> {
    return new Follower(await node.spawn(Replica, [engine]));
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
