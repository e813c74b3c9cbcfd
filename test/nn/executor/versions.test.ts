/** Asynchronous pipelines against delayed gradient descent said plainly: one device, handed the weights that each stage had. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { perMicroBatch } from "../../../nn/optim/asynchronous.ts";
import type { SgdConfig } from "../../../nn/optim/sgd.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { gradientName, trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";

const RATE = 0.5;
const optimizer: SgdConfig = {
  ...{ kind: "sgd", momentum: 0, nesterov: false, weightDecay: 0, clip: 0 },
  ...{ learningRate: RATE, warmup: 0, steps: 10, floor: 1, decay: "constant" },
};
const MICRO_BATCHES = 9;
const model = mlp({ sample: [3], hidden: [4, 5, 4], classes: 3, activation: "tanh" }, 4);
const segments = findSegments(model);
const STAGES = segments.length;

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

type Weights = Map<string, Tensor>;

const copyOf = ({ dtype, shape, bytes }: Tensor) => new Tensor(dtype, shape, bytes.slice());

const chance = new Chance(7);
const batches = Array.from({ length: MICRO_BATCHES }, () => ({
  features: chance.f32([4, 3], -1, 1),
  targets: chance.i64([4], 0, 2),
}));

function initial(): Weights {
  const own = new Chance(3);
  return new Map(
    model.graph.inputs
      .filter(({ name }) => model.parameters.includes(name))
      .map(({ name, shape }) => [name, own.f32(shape, -1, 1)]),
  );
}

interface Kind {
  readonly split?: boolean;
  readonly recompute?: boolean;
}

function executor(from: number, to: number, slots: number, kind: Kind = {}): Promise<StageExecutor> {
  const graphs = trainingGraphs(cutGraph(model.graph, segments, from, to), model, {
    ...{ input: segments[from]!.input, output: segments[to - 1]!.output },
    ...{ microBatches: 1, recompute: false, ...kind },
  });
  const totalParameters = model.parameters.length;
  return StageExecutor.create(engine, graphs, { slots, optimizer, totalParameters });
}

/** 1F1B on one stage: F and B with micro-batches, in order. */
function oneFOneB(stage: number): readonly { readonly forward: boolean; readonly m: number }[] {
  const ahead = Math.min(STAGES - 1 - stage, MICRO_BATCHES);
  const order = [];
  for (let m = 0; m < MICRO_BATCHES + ahead; m++) {
    if (m < MICRO_BATCHES) order.push({ forward: true, m });
    if (m >= ahead) order.push({ forward: false, m: m - ahead });
  }
  return order;
}

/** Trains all micro-batches through a pipeline of one segment a stage; the weights, and the losses. */
async function pipelined(kind: Kind) {
  const stages: StageExecutor[] = [];
  try {
    const weights = initial();
    for (let s = 0; s < STAGES; s++) {
      stages.push(await executor(s, s + 1, STAGES - s, kind));
      await stages[s]!.load(weights);
    }
    const bytes = engine.usage().tensorBytes;
    const losses: number[] = [];
    const queues = stages.map((_, s) => [...oneFOneB(s)]);
    const arrived = new Map<string, Tensor>();
    /** Runs the stage's next operation, if what it needs is there. */
    const step = async (s: number): Promise<boolean> => {
      const [next] = queues[s]!;
      if (!next) return false;
      const { forward, m } = next;
      const stage = stages[s]!;
      const { input, output, result } = stage.graphs;
      const slot = m % (STAGES - s);
      if (forward) {
        const given = input === null ? undefined : arrived.get(`${input} ${m}`);
        if (input !== null && !given) return false;
        for (const [name, tensor] of Object.entries(batches[m]!))
          if (stage.has(name)) stage.write(slot, name, tensor);
        if (given) stage.write(slot, input!, given);
        if (output === null && !kind.split) await stage.joint(slot);
        else await stage.forward(slot);
        if (output === null) losses[m] = stage.value(slot, result).f32()[0]!;
        else arrived.set(`${output} ${m}`, copyOf(stage.value(slot, output)));
      } else {
        const given = output === null ? undefined : arrived.get(`${gradientName(output)} ${m}`);
        if (output !== null && !given) return false;
        if (given) stage.write(slot, gradientName(output!), given);
        if (kind.split) {
          await stage.backwardInput(slot);
          await stage.backwardWeights(slot);
        } else if (output !== null) await stage.backward(slot);
        if (input !== null)
          arrived.set(`${gradientName(input)} ${m}`, copyOf(stage.value(slot, gradientName(input))));
        await stage.updateNow(m);
      }
      queues[s]!.shift();
      return true;
    };
    while (queues.some(({ length }) => length > 0)) {
      const moved = await Promise.all(stages.map((_, s) => step(s)));
      if (!moved.includes(true)) throw new Error("the pipeline is stuck");
    }
    const result: Weights = new Map();
    for (const stage of stages)
      for (const [name, tensor] of await stage.tensors()) result.set(name, copyOf(tensor));
    return { weights: result, losses, copied: engine.usage().tensorBytes - bytes };
  } finally {
    for (const stage of stages) stage.release();
  }
}

/** The same by the definition: each gradient at the weights that the stages had when the micro-batch came by. */
async function delayed(age: (stage: number, m: number) => number) {
  const whole = await executor(0, STAGES, 1);
  try {
    const history = [initial()];
    const losses: number[] = [];
    for (let m = 0; m < MICRO_BATCHES; m++) {
      const seen: Weights = new Map();
      segments.forEach(({ parameters }, s) => {
        for (const name of parameters) seen.set(name, history[m - age(s, m)]!.get(name)!);
      });
      await whole.load(seen);
      for (const [name, tensor] of Object.entries(batches[m]!)) whole.write(0, name, tensor);
      await whole.joint(0);
      losses.push(whole.value(0, "loss").f32()[0]!);
      const next: Weights = new Map();
      for (const [name, value] of history[m]!) {
        const gradient = (await whole.gradient(name)).f32();
        next.set(
          name,
          Tensor.f32(
            value.shape,
            value.f32().map((w, i) => w - RATE * gradient[i]!),
          ),
        );
      }
      await whole.clearGradients();
      history.push(next);
    }
    return { weights: history.at(-1)!, losses };
  } finally {
    whole.release();
  }
}

function furthest(a: Weights, b: Weights): number {
  return Math.max(
    ...[...b].flatMap(([name, tensor]) =>
      [...tensor.f32()].map((value, i) => Math.abs(value - a.get(name)!.f32()[i]!)),
    ),
  );
}

describe("an asynchronous pipeline", () => {
  test.each([
    ["stashing activations", {}],
    ["recomputing them", { recompute: true }],
    ["with backward passes in two", { split: true }],
  ])("is delayed gradient descent, %s", async (_, kind: Kind) => {
    expect(STAGES).toBeGreaterThan(2);
    const got = await pipelined(kind);
    const want = await delayed((s, m) => Math.min(m, STAGES - 1 - s));
    expect(furthest(got.weights, want.weights)).toBeLessThan(1e-5);
    got.losses.forEach((loss, m) => {
      expect(loss).toBeCloseTo(want.losses[m]!, 5);
    });
    // What it would be with no delay, or without stashing, is another result by far.
    expect(furthest((await delayed(() => 0)).weights, want.weights)).toBeGreaterThan(1e-3);
  });

  test("copies parameters for versions in flight, and only those that backward passes read", async () => {
    const { copied } = await pipelined({});
    // Stage s has S - 1 - s micro-batches in flight when it updates, each with a version of its own. The first passes no
    // gradient on and reads no parameters, the last has none in flight, and biases nobody reads.
    const weightBytes = (s: number) =>
      model.graph.inputs
        .filter(({ name, shape }) => segments[s]!.parameters.includes(name) && shape.length === 2)
        .reduce((sum, { shape }) => sum + 4 * shape[0]! * shape[1]!, 0);
    let bytes = 0;
    for (let s = 1; s < STAGES - 1; s++) bytes += (STAGES - 1 - s) * weightBytes(s);
    expect(copied).toBe(bytes);
  });
});

describe("updateNow", () => {
  test("copies nothing with one micro-batch at a time, and is then plain gradient descent", async () => {
    const first = await executor(1, 2, 2);
    const last = await executor(0, STAGES, 1);
    try {
      await first.load(initial());
      await last.load(initial());
      const { tensors } = engine.usage();
      const gradient = gradientName(first.graphs.output!);
      for (const m of [0, 1, 2]) {
        const slot = m % 2;
        first.value(slot, first.graphs.input!).f32().fill(m);
        await first.forward(slot);
        first.value(slot, gradient).f32().fill(1);
        await first.backward(slot);
        await first.updateNow(m);
        await last.joint(0);
        await last.updateNow(m);
      }
      expect(engine.usage().tensors).toBe(tensors);
    } finally {
      first.release();
      last.release();
    }
  });

  test("refuses a parameter that is tied to another stage's", async () => {
    const graph = cutGraph(model.graph, segments, 0, 1);
    const [weight] = segments[0]!.parameters;
    const roles = { ...model, ties: { [weight!]: "elsewhere" } };
    const { output } = segments[0]!;
    const graphs = trainingGraphs(graph, roles, { input: null, output, microBatches: 1, recompute: false });
    const stage = await StageExecutor.create(engine, graphs, { slots: 1, optimizer, totalParameters: 8 });
    try {
      expect(stage.updateNow(0)).rejects.toThrow("another one holds elsewhere, which is tied to its own");
    } finally {
      stage.release();
    }
  });
});

test("an optimiser's schedule is counted in micro-batches, and a scaled loss refused", () => {
  const config = { ...DEFAULT_ADAMW, warmup: 3, steps: 10 };
  expect(perMicroBatch(config, 4)).toEqual({ ...config, warmup: 12, steps: 40 });
  expect(() => perMicroBatch({ ...config, lossScale: 128 }, 4)).toThrow("cannot scale the loss");
});
