/** A stage: what it takes, what it gives up, and the commit gate, behind which alone its parameters change. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Slip } from "../../actors/inbox.ts";
import { chainShape, oneFOneB } from "../../actors/scheduler/schedule.ts";
import { Stage, type StageSpec } from "../../actors/stage.ts";
import { createReferenceEngine } from "../../nn/engine/reference/reference.ts";
import { cutGraph, DEFAULT_ADAMW, type Engine, encodeModel, findSegments } from "../../nn/index.ts";
import { rolesOf } from "../../nn/model.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor, NodeRuntime, type Ref } from "../../runtime/index.ts";
import { chain } from "../nn/run.ts";
import { failure } from "../runtime/world.ts";

const { graph, parameters } = chain([2, 3, 2], "Relu");
const segments = findSegments(graph, parameters);
/** The first of two stages, whose parameters are w0 [2, 3] and b0 [3]. */
const [first] = segments;
const own = new Set(first!.parameters);
const WEIGHTS = {
  w0: Tensor.f32([2, 3], [1, 2, 3, 4, 5, 6]),
  b0: Tensor.f32([3], [1, 1, 1]),
};

let node: NodeRuntime;
let engine: Engine;
let stage: Ref<Stage>;
let spec: StageSpec;
beforeEach(async () => {
  node = new NodeRuntime({ name: "node", log: () => {} });
  engine = createReferenceEngine();
  const bytes = encodeModel(cutGraph(graph, segments, 0, 1));
  spec = {
    generation: 2,
    program: oneFOneB(chainShape(2, 1))[0]!,
    microBatches: 1,
    chunks: [
      {
        graph: new Tensor("u8", [bytes.byteLength], bytes),
        roles: rolesOf(own),
        ...{ input: null, output: first!.output, inputGradient: false, split: false },
        ...{ next: [[1]], previous: [], tied: {} },
      },
    ],
    group: { sharing: null, rank: 0, workers: [0], shares: [1], dealt: "" },
    codecs: { activations: null, gradients: null },
    ...{ recompute: false, stashBytes: 0, keepsSent: false, keepsSummands: false },
    optimizer: { ...DEFAULT_ADAMW, warmup: 0, steps: 10 },
    totalParameters: parameters.size,
    seed: 0,
  };
  stage = await node.spawn(Stage, [spec, engine]);
  await stage.ask.load(WEIGHTS);
});
afterEach(async () => {
  await node.close();
  await engine.close();
});

const slip = (value: string, more: Partial<Slip> = {}): Slip => ({
  ...{ generation: 2, phase: "train", step: 0, microBatch: 0, value },
  ...more,
});
const x = Tensor.f32([3, 2], [1, 2, 3, 4, 5, 6]);
const gradient = () => Tensor.f32([3, 3], new Float32Array(9).fill(0.5));
const weights = async () => [...(await stage.ask.state()).w0!.f32()];

/** Stands where the next stage would be, and keeps what it is given. */
class Sink extends Actor {
  readonly #given: Tensor[] = [];

  deliver(_slip: Slip, tensor: Tensor): void {
    this.#given.push(tensor);
  }

  /** What the tensors hold now. */
  kept(): number[][] {
    return this.#given.map((tensor) => [...tensor.f32()]);
  }
}

async function connected(): Promise<Ref<Sink>> {
  const sink = await node.spawn(Sink, []);
  await stage.ask.connect({ 1: sink as Ref<any> });
  return sink;
}

/** Gives the stage all it waits for in a step. */
async function feed(step: number): Promise<void> {
  await stage.ask.deliver(slip("x", { step }), x);
  await stage.ask.deliver(slip(`grad.${first!.output}`, { step }), gradient());
}

test("changes its parameters behind the commit gate, and there alone", async () => {
  const sink = await connected();
  await feed(0);
  const { squareSums, losses, spans } = await stage.ask.train(0);
  expect(losses).toBeNull();
  expect(spans.map(({ op }) => op)).toEqual([
    "forward",
    "send-activation",
    "receive-gradient",
    "backward",
    "update",
  ]);
  expect((await sink.ask.kept()).length).toBe(1);
  expect(await weights()).toEqual([...WEIGHTS.w0.f32()]);

  const all = new Float32Array(parameters.size);
  all.set(squareSums.f32());
  const { learningRate } = await stage.ask.commit(0, Tensor.f32([all.length], all));
  expect(learningRate).toBeGreaterThan(0);
  expect(await weights()).not.toEqual([...WEIGHTS.w0.f32()]);
});

test("a step that was not committed is repeated to the same gradients", async () => {
  await connected();
  await feed(0);
  const before = [...(await stage.ask.train(0)).squareSums.f32()];
  await feed(0);
  expect([...(await stage.ask.train(0)).squareSums.f32()]).toEqual(before);
});

test("takes what comes early, and what comes late", async () => {
  await connected();
  await feed(1);
  const early = stage.ask.train(0);
  await feed(0);
  await early;
  await stage.ask.train(1);
});

test("refuses a tensor of an earlier generation, and one of another type", async () => {
  await connected();
  expect((await failure(stage.ask.deliver(slip("x", { generation: 1 }), x))).message).toBe(
    "generation 2 got a tensor of generation 1",
  );
  await stage.ask.deliver(slip("x"), Tensor.f32([2], [1, 2]));
  const error = await failure(stage.ask.train(0));
  expect([error.code, error.message]).toEqual(["TENSOR", "x: expected f32[3,2], got f32[2]"]);
});

test("answers a tensor of validation when it has been taken: its giver runs no further ahead than that", async () => {
  await connected();
  let answered = 0;
  const given = [0, 1].map((microBatch) =>
    stage.ask.deliver(slip("x", { phase: "evaluate", microBatch }), x).then(() => answered++),
  );
  // Messages of one sender are handled in order: the tensors are there when this is answered.
  await failure(stage.ask.deliver(slip("x", { generation: 1 }), x));
  expect(answered).toBe(0);
  await stage.ask.evaluate(0, 2);
  await Promise.all(given);
});

test("hands a stage of the same node a copy, since its own memory is written over", async () => {
  const sink = await connected();
  const inputs = [x, Tensor.f32([3, 2], new Float32Array(6))];
  const given = inputs.map((input, microBatch) =>
    stage.ask.deliver(slip("x", { phase: "evaluate", microBatch }), input),
  );
  await stage.ask.evaluate(0, 2);
  await Promise.all(given);
  const [one, two] = await sink.ask.kept();
  expect(two).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1]);
  expect(one).not.toEqual(two);
});

test.each(["train", "evaluate"] as const)(
  "waits no longer for a neighbour that is gone: %s",
  async (phase) => {
    const sink = await connected();
    const work = phase === "train" ? stage.ask.train(0) : stage.ask.evaluate(0, 1);
    const failing = failure(work);
    await node.kill(sink);
    expect((await failing).message).toMatch(/^a neighbouring stage is gone: /);
  },
);

test("ends in the middle of a step, and leaves nothing in the engine", async () => {
  await connected();
  const failing = failure(stage.ask.train(0));
  await stage.ask.abandon();
  expect((await failing).message).toBe("the run is over");
  await node.stop(stage);
  expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
});

test("goes on in a further generation as it was: what was begun is forgotten, what it holds is not", async () => {
  await connected();
  await feed(0);
  const whole = [...(await stage.ask.train(0)).squareSums.f32()];
  await stage.ask.keep(-1);
  await stage.ask.deliver(slip("x"), x);
  const failing = failure(stage.ask.train(0));
  await stage.ask.abandon();
  expect((await stage.ask.resume(3, -1)).holds).toBe(true);
  expect((await failing).message).toBe("the run is over");
  expect((await failure(stage.ask.deliver(slip("x"), x))).message).toBe(
    "generation 3 got a tensor of generation 2",
  );

  await connected();
  await stage.ask.deliver(slip("x", { generation: 3 }), x);
  await stage.ask.deliver(slip(`grad.${first!.output}`, { generation: 3 }), gradient());
  expect([...(await stage.ask.train(0)).squareSums.f32()]).toEqual(whole);
  expect(await weights()).toEqual([...WEIGHTS.w0.f32()]);
});

test("goes back to a step that it is behind of with its own copies, and is not where it is before it has them", async () => {
  await connected();
  await stage.ask.holds();
  await stage.ask.keep(-1);
  await feed(0);
  await stage.ask.train(0);
  await stage.ask.commit(0, Tensor.f32([parameters.size], new Float32Array(parameters.size).fill(1)));
  expect(await weights()).not.toEqual([...WEIGHTS.w0.f32()]);
  expect((await stage.ask.resume(3, -1)).holds).toBe(false);
  expect((await stage.ask.resume(4, -1)).holds).toBe(false);
  expect(await stage.ask.fetch(-1, [{ source: stage, worker: "2/0", names: ["w0", "b0"] }])).toBe(0);
  expect(await weights()).toEqual([...WEIGHTS.w0.f32()]);
});

test("hears no more of neighbours that it had in an earlier generation", async () => {
  const sink = await connected();
  await stage.ask.keep(-1);
  await stage.ask.resume(3, -1);
  await connected();
  const training = stage.ask.train(0);
  await node.kill(sink);
  await stage.ask.deliver(slip("x", { generation: 3 }), x);
  await stage.ask.deliver(slip(`grad.${first!.output}`, { generation: 3 }), gradient());
  await training;
});

test("does not go on once its memory is given back", async () => {
  await stage.ask.retire();
  expect((await failure(stage.ask.resume(3, -1))).message).toBe(
    "a stage that has given its memory back does not go on",
  );
});

test("goes on from where it is when a neighbour is replaced: the other is given what the first has got", async () => {
  stage = await node.spawn(Stage, [{ ...spec, keepsSent: true }, engine]);
  await stage.ask.load(WEIGHTS);
  const sink = await connected();
  await feed(0);
  const { squareSums, spans } = await stage.ask.train(0);

  // The same step once more, interrupted when its activation is on its way.
  stage = await node.spawn(Stage, [{ ...spec, keepsSent: true }, engine]);
  await stage.ask.load(WEIGHTS);
  await stage.ask.keep(-1);
  const lost = await connected();
  await stage.ask.deliver(slip("x"), x);
  const interrupted = failure(stage.ask.train(0));
  while ((await lost.ask.kept()).length === 0);
  await node.kill(lost);
  expect((await interrupted).message).toMatch(/^a neighbouring stage is gone: /);
  expect(await stage.ask.resume(3, -1)).toEqual({ holds: true, midway: true, busy: true });

  const next = await node.spawn(Sink, []);
  await stage.ask.connect({ 1: next as Ref<any> }, true);
  // Data is fed again, and what has been taken is passed over.
  await stage.ask.deliver(slip("x", { generation: 3 }), Tensor.f32([3, 2], new Float32Array(6)));
  await stage.ask.deliver(slip(`grad.${first!.output}`, { generation: 3 }), gradient());
  const report = await stage.ask.train(0);
  expect(report.squareSums.f32()).toEqual(squareSums.f32());
  expect(report.spans.map(({ op }) => op)).toEqual(spans.map(({ op }) => op));
  expect(await next.ask.kept()).toEqual(await sink.ask.kept());
});

test.each([true, false])(
  "ahead of a step that goes on (%p), has what came for it only then",
  async (goesOn) => {
    stage = await node.spawn(Stage, [{ ...spec, keepsSent: true }, engine]);
    await stage.ask.load(WEIGHTS);
    await stage.ask.keep(-1);
    await connected();
    await stage.ask.deliver(slip("x"), x);
    await stage.ask.abandon();
    expect((await failure(stage.ask.evaluate(0, 1))).message).toBe("the run is over");
    expect(await stage.ask.resume(3, -1)).toEqual({ holds: true, midway: true, busy: false });
    const next = await node.spawn(Sink, []);
    await stage.ask.connect({ 1: next as Ref<any> }, goesOn);
    const other = Tensor.f32([3, 2], new Float32Array(6));
    await stage.ask.deliver(slip("x", { generation: 3 }), other);
    await stage.ask.deliver(slip(`grad.${first!.output}`, { generation: 3 }), gradient());
    await stage.ask.train(0);
    const [sent] = await next.ask.kept();

    stage = await node.spawn(Stage, [spec, engine]);
    await stage.ask.load(WEIGHTS);
    const sink = await connected();
    await stage.ask.deliver(slip("x"), goesOn ? x : other);
    await stage.ask.deliver(slip(`grad.${first!.output}`), gradient());
    await stage.ask.train(0);
    expect([sent]).toEqual(await sink.ask.kept());
  },
);

test("begins a step again where it is not to go on", async () => {
  stage = await node.spawn(Stage, [{ ...spec, keepsSent: true }, engine]);
  await stage.ask.load(WEIGHTS);
  await stage.ask.keep(-1);
  await connected();
  await stage.ask.deliver(slip("x"), x);
  const interrupted = failure(stage.ask.train(0));
  await stage.ask.abandon();
  await interrupted;
  expect((await stage.ask.resume(3, -1)).midway).toBe(true);
  const sink = await connected();
  await stage.ask.deliver(slip("x", { generation: 3 }), x);
  await stage.ask.deliver(slip(`grad.${first!.output}`, { generation: 3 }), gradient());
  const { spans } = await stage.ask.train(0);
  expect(spans).toHaveLength(5);
  expect(await sink.ask.kept()).toHaveLength(1);
});
