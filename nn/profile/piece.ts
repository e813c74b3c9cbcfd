/** A range of segments on an engine, with what is measured of it: its runs as probes, and what they cost. */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import type { Engine } from "../engine/engine.ts";
import { StageExecutor } from "../executor.ts";
import type { Trainable } from "../model.ts";
import type { Graph } from "../onnx/graph.ts";
import { GraphError } from "../onnx/graph.ts";
import { isScaled } from "../optim/loss-scale.ts";
import type { OptimizerConfig } from "../optim/optimizer.ts";
import { accumulatorName } from "../passes/accumulate.ts";
import { cutGraph, type Segment } from "../segments.ts";
import type { ShardKind, ShardPlan } from "../shards/plan.ts";
import { type ShardOptions, shard } from "../shards/shard.ts";
import { LOSS_GRADIENT, type StageGraphs, trainingGraphs } from "../training.ts";
import { type ShardRuns, shardRuns } from "./shards.ts";

export interface PieceOptions {
  readonly optimizer: OptimizerConfig;
  readonly microBatches: number;
  readonly split: boolean;
  readonly sharings: readonly ShardKind[];
}

/** One of `ranks` ranks with equal shares: kernel milliseconds of its phases' runs, and how many these are. */
export interface ShardedProfile {
  readonly ranks: number;
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly forwardRuns: number;
  readonly backwardRuns: number;
}

/** Milliseconds of each run; zero for one that there is not. */
export interface PieceTimes {
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly backwardInputMs?: number;
  readonly backwardWeightMs?: number;
  readonly jointMs: number;
  readonly stepMs: number;
  readonly sharded?: Readonly<Partial<Record<ShardKind, ShardedProfile>>>;
}

/** Equal shares of so many ranks are measured; with the whole, that is enough for a line through both. */
const RANKS = 2;

type RunName =
  | ("forward" | "backward" | "joint" | "step" | "split forward" | "backward input" | "backward weights")
  | `${ShardKind} ${"forward" | "backward"}`;

export class Piece {
  readonly graphs: StageGraphs;
  /** With forward and backward as runs of their own, also where the piece ends the model. */
  readonly apart: StageGraphs;
  /** What single runs have cost outside kernels so far, each. */
  readonly otherMs: number[] = [];
  /** All that can be measured. */
  readonly runs: ReadonlyMap<RunName, () => Promise<number>>;
  private readonly executors: readonly StageExecutor[];
  private readonly shards: ReadonlyMap<ShardKind, ShardRuns>;

  private constructor(
    [graphs, apart]: readonly [StageGraphs, StageGraphs],
    executors: readonly StageExecutor[],
    shards: ReadonlyMap<ShardKind, ShardRuns>,
    totalParameters: number,
    now: () => number,
  ) {
    this.graphs = graphs;
    this.apart = apart;
    this.executors = executors;
    this.shards = shards;
    const [main, split] = executors as [StageExecutor, StageExecutor?];
    const timed = (run: () => Promise<number>) => async () => {
      const start = now();
      const ms = await run();
      this.otherMs.push(now() - start - ms);
      return ms;
    };
    const sums = new Float32Array(totalParameters).fill(1);
    const step = async () => {
      const start = now();
      await main.squareSums();
      await main.update(0, sums);
      // A step begins with clear gradients, whatever the one before it came to.
      await main.clearGradients();
      return now() - start;
    };
    const runs = new Map<RunName, () => Promise<number>>();
    if (graphs.joint)
      runs.set(
        "joint",
        timed(() => main.joint(0)),
      );
    if (graphs.forward)
      runs.set(
        "forward",
        timed(() => main.forward(0)),
      );
    if (graphs.backward)
      runs.set(
        "backward",
        timed(() => main.backward(0)),
      );
    if (split) {
      if (graphs.joint) runs.set("split forward", () => split.forward(0));
      runs.set("backward input", () => split.backwardInput(0));
      runs.set("backward weights", () => split.backwardWeights(0));
    }
    for (const [kind, { forward, backward }] of shards) {
      runs.set(`${kind} forward`, forward).set(`${kind} backward`, backward);
    }
    runs.set("step", step);
    this.runs = runs;
  }

  static graphOf(model: Trainable, segments: readonly Segment[], from: number, to: number): Graph {
    return cutGraph(model.graph, segments, from, to);
  }

  /** @throws EngineError when the engine refuses a graph; nothing is left behind. */
  static async create(
    engine: Engine,
    model: Trainable,
    segments: readonly Segment[],
    from: number,
    to: number,
    options: PieceOptions,
    now: () => number,
  ): Promise<Piece> {
    const { optimizer, microBatches } = options;
    const graph = Piece.graphOf(model, segments, from, to);
    const { input, inputTrained: inputGradient } = segments[from]!;
    const { output } = segments[to - 1]!;
    const totalParameters = model.parameters.length;
    const graphsOf = (split: boolean) =>
      trainingGraphs(graph, model, {
        ...{ input, output, inputGradient, microBatches, recompute: false, split },
        scaledLoss: isScaled(optimizer),
      });
    const graphs = graphsOf(false);
    const apart = graphs.joint || options.split ? graphsOf(true) : graphs;
    const made: { release(): void }[] = [];
    try {
      const executors: StageExecutor[] = [];
      for (const each of options.split ? [graphs, apart] : [graphs]) {
        const executor = await StageExecutor.create(engine, each, { slots: 1, optimizer, totalParameters });
        executors.push(executor);
        made.push(executor);
        await fill(executor, each);
      }
      const shards = new Map<ShardKind, ShardRuns>();
      for (const kind of options.sharings) {
        const plan = shardPlan(graph, model, { kind, ranks: RANKS, input, inputGradient });
        if (!plan) continue;
        shards.set(kind, await shardRuns(engine, plan, 0));
        made.push(shards.get(kind)!);
      }
      return new Piece([graphs, apart], executors, shards, totalParameters, now);
    } catch (error) {
      for (const each of made) each.release();
      throw error;
    }
  }

  /** @param ms by run, in the order of `runs`. */
  timesOf(ms: readonly number[]): PieceTimes {
    const times = new Map([...this.runs.keys()].map((name, i) => [name, ms[i]!]));
    const of = (name: RunName) => times.get(name);
    const joint = of("joint");
    const [backwardInputMs, backwardWeightMs] = [of("backward input"), of("backward weights")];
    // Where they are one run, backward has twice the products of forward.
    const forwardMs = of("forward") ?? of("split forward") ?? joint! / 3;
    const backwardMs = of("backward") ?? (joint === undefined ? 0 : Math.max(0, joint - forwardMs));
    const sharded = [...this.shards].map(([kind, { forwardRuns, backwardRuns }]) => [
      kind,
      {
        ...{ ranks: RANKS, forwardMs: of(`${kind} forward`)!, backwardMs: of(`${kind} backward`)! },
        ...{ forwardRuns, backwardRuns },
      },
    ]);
    return {
      ...{ forwardMs, backwardMs, jointMs: joint ?? forwardMs + backwardMs, stepMs: of("step")! },
      ...(backwardInputMs !== undefined && { backwardInputMs, backwardWeightMs: backwardWeightMs! }),
      ...(sharded.length > 0 && { sharded: Object.fromEntries(sharded) }),
    };
  }

  release(): void {
    for (const executor of this.executors) executor.release();
    for (const runs of this.shards.values()) runs.release();
  }
}

/**
 * Numbers as training has them, in all that is held and all that comes in: some kernels take another time for zeros,
 * and much longer for numbers so small that processors treat them apart. Classes and tokens stay zero.
 */
async function fill(executor: StageExecutor, { parameters, frozen, statistics, ...graphs }: StageGraphs) {
  const held = [...parameters, ...frozen].filter(({ dtype }) => dtype === "f32");
  const values = new Map(held.map(({ name, shape }) => [name, noise(shape, WEIGHT)]));
  // Variances are not negative.
  for (const { name, dtype, shape } of statistics) {
    if (dtype === "f32") values.set(name, Tensor.f32(shape, new Float32Array(elements(shape)).fill(1)));
  }
  await executor.put(values);
  const incoming = [graphs.forward, graphs.backward, graphs.joint].flatMap((graph) => graph?.inputs ?? []);
  const known = new Set([...parameters, ...frozen, ...statistics].map(({ name }) => name));
  for (const { name, dtype, shape } of incoming) {
    const isOwn = known.has(name) || name === LOSS_GRADIENT || name.startsWith(accumulatorName(""));
    if (dtype === "f32" && !isOwn && executor.has(name)) executor.write(0, name, noise(shape, 1));
  }
}

const WEIGHT = 0.05;

/** Numbers between -`size` and `size`, the same every time. */
function noise(shape: Shape, size: number): Tensor {
  const values = new Float32Array(elements(shape));
  for (let i = 0; i < values.length; i++) values[i] = (Math.imul(i + 1, 0x9e3779b1) / 2 ** 31) * size;
  return Tensor.f32(shape, values);
}

/** Undefined where this cannot be shared in that way. */
function shardPlan(graph: Graph, model: Trainable, options: ShardOptions): ShardPlan | undefined {
  try {
    return shard(graph, model, options);
  } catch (error) {
    if (error instanceof GraphError) return undefined;
    throw error;
  }
}
