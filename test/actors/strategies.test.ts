/**
 * Every strategy comes to the weights that one device comes to, over several steps: pipelines to the bit, whatever shares
 * work up to the order in which numbers are added.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Feed } from "../../actors/data/feed.ts";
import { planPrograms } from "../../actors/scheduler/plan.ts";
import { validatePrograms } from "../../actors/scheduler/validate.ts";
import type { Model } from "../../nn/model.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { uniformTensor } from "../../nn/models/init.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { convnet, convnetFeed } from "../nn/convnet.ts";
import { motley } from "../nn/motley.ts";
import { gpt2 } from "../nn/shards/models.ts";
import { failure } from "../runtime/world.ts";
import { type Cluster, type ClusterOptions, makeCluster } from "./cluster.ts";
import { type HandPlan, type HandStage, planOf } from "./plans.ts";

const STEPS = 3;
const MICRO_BATCHES = 4;

/** Relative, as the issue of all this wants it. */
const TOLERANCE = 1e-5;

let clusters: Cluster[] = [];
async function release() {
  for (const cluster of clusters) await cluster.close();
  clusters = [];
}
afterEach(release);
afterAll(release);

type State = Readonly<Record<string, Tensor>>;
type Hand = Omit<HandPlan, "microBatches">;

interface Outcome {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly validation: number;
  readonly state: State;
}

interface Subject {
  readonly model: Model;
  readonly options: Partial<ClusterOptions>;
}

/** Steps `from` to `to` by a plan, from a state or from the beginning, and a validation. */
async function run(
  { model, options }: Subject,
  hand: Hand,
  { from = 0, to = STEPS, state = {} as State } = {},
): Promise<Outcome> {
  const plan = planOf(model, { microBatches: MICRO_BATCHES, ...hand });
  validatePrograms(planPrograms(plan));
  const cluster = await makeCluster({
    ...options,
    ...{ devices: plan.devices.length, model, scheduling: { plan, ...options.scheduling } },
  });
  clusters.push(cluster);
  const { scheduler, initial } = cluster;
  await scheduler.ask.plan();
  await scheduler.ask.deploy({ ...initial, ...state });
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = from; step < to; step++) {
    const { loss, gradNorm } = await scheduler.ask.step(step, to - 1);
    losses.push(loss);
    norms.push(gradNorm);
  }
  const validation = await scheduler.ask.evaluate(0);
  const ended = Object.entries(await scheduler.ask.state());
  const kept = ended.map(([name, { dtype, shape, bytes }]) => [
    name,
    new Tensor(dtype, shape, bytes.slice()),
  ]);
  return { losses, norms, validation, state: Object.fromEntries(kept) };
}

/**
 * How far two tensors are apart: the largest difference, relative to the largest value.
 */
function apart(tensor: Tensor, other: Tensor): number {
  const [values, expected] = [tensor.f32(), other.f32()];
  const most = (all: Float32Array) => all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return most(values.map((value, i) => value - expected[i]!)) / (most(expected) || 1);
}

const SINGLE: Hand = { stages: [{ to: [6] }] };

/**
 * Biases of keys: a softmax does not see them. In exact arithmetic their gradients are 0, so that what is computed is
 * rounding, and Adam makes steps of it.
 */
const isNoise = (name: string) => /attn\.(k|c_attn)\.bias$/.test(name);

function expectNear(outcome: Outcome, expected: Outcome): void {
  expect(Object.keys(outcome.state).sort()).toEqual(Object.keys(expected.state).sort());
  const far = Object.entries(outcome.state)
    .map(([name, tensor]) => [name, apart(tensor, expected.state[name]!)] as const)
    .filter(([name, distance]) => !(isNoise(name) || distance <= TOLERANCE));
  expect(far).toEqual([]);
  const numbers = ({ losses, norms, validation }: Outcome) => [...losses, ...norms, validation];
  const wanted = numbers(expected);
  for (const [i, number] of numbers(outcome).entries()) {
    expect(Math.abs(number / wanted[i]! - 1)).toBeLessThan(TOLERANCE);
  }
}

const pipelines: Readonly<Record<string, Hand>> = {
  "pipeline, gpipe": { stages: [{ to: [2] }, { to: [4] }, { to: [6] }], schedule: "gpipe" },
  "pipeline, 1f1b": { stages: [{ to: [2] }, { to: [4] }, { to: [6] }] },
  "pipeline, interleaved": { stages: [{ to: [1, 4] }, { to: [2, 6] }], schedule: "interleaved" },
  "pipeline, zero-bubble": { stages: [{ to: [2] }, { to: [4] }, { to: [6] }], schedule: "zero-bubble" },
  "pipeline, V-shaped": { stages: [{ to: [2, 6] }, { to: [3, 4] }], schedule: "gpipe" },
};
const dealt: HandStage["members"] = [[0, 3], [1], [2]];
const shared: Readonly<Record<string, Hand>> = {
  data: { stages: [{ to: [2, 4, 6], sharing: "data", members: dealt }] },
  "hybrid, data in a pipeline": {
    stages: [
      {
        to: [2],
        sharing: "data",
        members: [
          [0, 2],
          [1, 3],
        ],
      },
      { to: [4] },
      { to: [6], sharing: "data", members: [[3], [0, 1, 2]] },
    ],
  },
  "hybrid, data in an interleaved pipeline that recomputes": {
    stages: [
      {
        to: [1, 4],
        sharing: "data",
        members: [
          [0, 1],
          [2, 3],
        ],
        recompute: true,
      },
      { to: [2, 6] },
    ],
    schedule: "interleaved",
  },
};

const sharded: Readonly<Record<string, Hand>> = {
  tensor: { stages: [{ to: [6], sharing: "tensor", members: 2 }] },
  "tensor, uneven shares on three": {
    stages: [{ to: [6], sharing: "tensor", members: 3, shares: [2, 1, 1] }],
  },
  sequence: { stages: [{ to: [6], sharing: "sequence", members: 2 }] },
  "tensor-sequence": { stages: [{ to: [6], sharing: "tensor-sequence", members: 2 }] },
  "hybrid, shards in a pipeline": {
    stages: [
      {
        to: [2],
        sharing: "data",
        members: [
          [0, 2],
          [1, 3],
        ],
      },
      { to: [4], sharing: "tensor", members: 2 },
      { to: [6], sharing: "sequence", members: 2, recompute: true },
    ],
  },
};

/** Tokens that go round, which can be learned in no time. */
const text: Feed = {
  values: [
    { name: "ids", dtype: "i64", shape: [8, 2] },
    { name: "targets", dtype: "i64", shape: [16] },
  ],
  validationCount: 5,
  training: (step, microBatch) => tokensAt(step * MICRO_BATCHES + microBatch),
  validation: (microBatch) => tokensAt(1000 + microBatch),
};

function tokensAt(index: number): Record<string, Tensor> {
  const token = (i: number) => (((index + i) % 11) * 29) % 127;
  const tokens = (from: number) => Array.from({ length: 16 }, (_, i) => token(from + i));
  return { ids: Tensor.i64([8, 2], tokens(0)), targets: Tensor.i64([16], tokens(2)) };
}

const gpt = { layers: 2, width: 8, heads: 4, context: 8, vocabulary: 128 };
const SUBJECTS: Readonly<Record<string, Subject>> = {
  "a GPT": { model: gptModel(gpt, 2), options: { feed: text } },
  "a model of frozen values, statistics, dropout and ties": { model: motley(), options: { feed: text } },
  "a convolutional network": { model: convnet(), options: { feed: convnetFeed(MICRO_BATCHES) } },
};

describe.each(Object.entries(SUBJECTS))("%s", (_, subject) => {
  let alone: Outcome;
  beforeAll(async () => {
    alone = await run(subject, SINGLE);
    await release();
  });

  test.each(Object.entries(pipelines))("%s: the same bits", async (_, plan) => {
    expect(await run(subject, plan)).toEqual(alone);
  });

  test.each(Object.entries(shared))("%s: the same up to rounding", async (_, plan) => {
    expectNear(await run(subject, plan), alone);
  });

  if (Object.keys(subject.model.statistics).length === 0) {
    test.each(Object.entries(sharded))("%s: the same up to rounding", async (_, plan) => {
      expectNear(await run(subject, plan), alone);
    });
  } else {
    test("is not sharded: statistics move with every micro-batch", async () => {
      const { code, message } = await failure(run(subject, sharded.tensor!));
      expect(code).toBe("DEVICE_FAILED");
      expect(message).toMatch(
        /^device-\d cannot run its part of stage 1: .* cannot be sharded: ".*" moves with every micro-batch/,
      );
    });
  }

  test("a checkpoint is gone on from by another strategy", async () => {
    const [first, second] = [shared.data!, pipelines["pipeline, interleaved"]!];
    const { state } = await run(subject, first, { to: 2 });
    const { losses, norms, ...ended } = await run(subject, second, { from: 2, state });
    expectNear(
      {
        ...ended,
        losses: [...alone.losses.slice(0, 2), ...losses],
        norms: [...alone.norms.slice(0, 2), ...norms],
      },
      alone,
    );
    const half = await run(subject, second, { to: 1 });
    const rest = await run(subject, pipelines["pipeline, zero-bubble"]!, { from: 1, state: half.state });
    expect(rest.state).toEqual(alone.state);
  });
});

describe("a head that is the embedding, where members share either", () => {
  const { initial: _, ...rest } = motley();
  const trained = gpt2();
  const [embedding] = trained.parameters as [string];
  const ties = { [trained.parameters.at(-1)!]: embedding };
  const shapes = new Map(trained.graph.inputs.map(({ name, shape }) => [name, shape]));
  const model: Model = {
    ...{ ...rest, ...trained, ties, name: "gpt2" },
    initial: (name, seed) => uniformTensor(seed, ties[name] ?? name, shapes.get(name)!, 0.3),
  };
  const feed: Feed = {
    ...text,
    training: (step, microBatch) => fitted(step * MICRO_BATCHES + microBatch),
    validation: (microBatch) => fitted(1000 + microBatch),
  };
  const fitted = (index: number) => {
    const tokens = (from: number) => Array.from({ length: 12 }, (_, i) => (index + from + i * 3) % 11);
    return { ids: Tensor.i64(shapes.get("ids")!, tokens(0)), targets: Tensor.i64([12], tokens(3)) };
  };
  const subject: Subject = { model, options: { feed } };
  let alone: Outcome;
  beforeAll(async () => {
    alone = await run(subject, SINGLE);
    await release();
    expect(alone.state[embedding]!.bytes).toEqual(alone.state[model.parameters.at(-1)!]!.bytes);
  });

  test.each([
    "data",
    "hybrid, data in a pipeline",
    "hybrid, data in an interleaved pipeline that recomputes",
    "tensor",
    "hybrid, shards in a pipeline",
  ])("%s: the same up to rounding", async (name) => {
    expectNear(await run(subject, { ...shared, ...sharded }[name]!), alone);
  });
});

describe("what is not the same as on one device", () => {
  const subject = SUBJECTS["a GPT"]!;
  const steps = 6;
  let alone: Outcome;
  beforeAll(async () => {
    alone = await run(subject, SINGLE, { to: steps });
    await release();
  });
  const learns = ({ losses, validation }: Outcome) => {
    expect(losses.length).toBe(steps);
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    expect(Math.abs(validation / alone.validation - 1)).toBeLessThan(0.2);
  };

  test("pipedream, whose micro-batches are steps, learns", async () => {
    const outcome = await run(
      subject,
      { stages: [{ to: [3] }, { to: [6] }], schedule: "pipedream" },
      { to: steps },
    );
    learns(outcome);
    // With one stage there is nothing to be stale: plain descent, one micro-batch at a time.
    learns(await run(subject, { ...SINGLE, schedule: "pipedream" }, { to: steps }));
  });

  test("members that meet every third step learn, and end as one", async () => {
    const local: HandStage = { to: [2, 6], sharing: "local", members: [[0, 1, 3], [2]] };
    const outcome = await run(subject, { stages: [local], localSteps: 3 }, { to: steps });
    learns(outcome);
  });
});
