/** A stage: what it takes, what it gives up, and the commit gate, behind which alone its parameters change. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Slip } from "../../actors/inbox.ts";
import { oneFOneB } from "../../actors/scheduler/schedule.ts";
import { Stage, type StageSpec } from "../../actors/stage.ts";
import { createReferenceEngine } from "../../nn/engine/reference/reference.ts";
import { cutGraph, DEFAULT_ADAMW, type Engine, encodeModel, findSegments } from "../../nn/index.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { NodeRuntime, type Ref } from "../../runtime/index.ts";
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
beforeEach(async () => {
  node = new NodeRuntime({ name: "node", log: () => {} });
  engine = createReferenceEngine();
  const bytes = encodeModel(cutGraph(graph, segments, 0, 1));
  const spec: StageSpec = {
    generation: 2,
    program: oneFOneB(2, 1)[0]!,
    microBatches: 1,
    graph: new Tensor("u8", [bytes.byteLength], bytes),
    parameters: [...own],
    input: null,
    output: first!.output,
    recompute: false,
    optimizer: { ...DEFAULT_ADAMW, warmup: 0, steps: 10 },
    totalParameters: parameters.size,
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

/** Stands where the next stage would be. */
class Next extends Stage {
  static override readonly reentrant: readonly string[] = ["deliver", "connect"];
  override onStart(): Promise<void> {
    return Promise.resolve();
  }
  override onStop(): void {}
}
