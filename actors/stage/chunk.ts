/** One chunk of a stage: what runs it, and where each micro-batch of the program is in it. */

import type { ChunkExecutor, ChunkValues } from "../../nn/chunk-executor.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { type ExecutorOptions, StageExecutor } from "../../nn/executor.ts";
import type { Roles } from "../../nn/model.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { decodeModel } from "../../nn/onnx/proto.ts";
import { perMicroBatch } from "../../nn/optim/asynchronous.ts";
import { isScaled } from "../../nn/optim/loss-scale.ts";
import { DILOCO } from "../../nn/optim/outer.ts";
import { type ShardChunk, shardChunk } from "../../nn/shards/chunk.ts";
import type { Collectives } from "../../nn/shards/collectives.ts";
import { ShardExecutor } from "../../nn/shards/executor.ts";
import { statisticDecays } from "../../nn/training/decay.ts";
import { type StageGraphs, trainingGraphs } from "../../nn/training.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { type Followable, mostUpdates } from "../recovery/updates.ts";
import { isSharded, type Sharing } from "../scheduler/plan.ts";
import { microBatchesOf } from "../scheduler/program.ts";
import type { Slots } from "./slots.ts";
import { bytesOf, type ChunkSpec, type StageHoldings, type StageSpec } from "./spec.ts";

/** How gradients become updates. */
type Way = Required<Pick<ExecutorOptions, "optimizer" | "microBatches">> & Pick<ExecutorOptions, "outer">;

export class Chunk {
  /** Index into the program's positions. */
  readonly index: number;
  readonly position: number;
  spec: ChunkSpec;
  readonly graphs: ChunkValues;
  executor!: ChunkExecutor;
  /** The same, unless it is a part of the chunk that it runs. */
  whole: StageExecutor | undefined;
  /** How its running statistics forget, where micro-batches are shared. */
  decays: ReadonlyMap<string, number>;
  /** Whether it reads what goes in where the chunk before it has written that, and the same on the way back. */
  isJoined = false;
  private readonly way: Way;
  private readonly trained: StageGraphs | ShardChunk;
  private readonly stage: StageSpec;
  private slots: Slots;
  /** What each slot is in use for: kernels, and what is sent from there. */
  private readonly held: Promise<unknown>[][];
  /** Gradients as they were before they were added up over members: memory that is used again, and whether it is of now. */
  private readonly summands = new Map<string, Tensor>();
  private isAddedUp = false;

  /** @throws GraphError for a graph that cannot be trained. */
  constructor(index: number, stage: StageSpec, slots: Slots) {
    this.index = index;
    this.stage = stage;
    this.slots = slots;
    this.spec = stage.chunks[index]!;
    this.position = stage.program.positions[index]!;
    this.held = Array.from({ length: slots.counts[index]! }, () => []);
    const { recompute, stashBytes } = stage;
    const graph = decodeModel(this.spec.graph.bytes);
    const { roles, input, output, inputGradient, split } = this.spec;
    const { sharing, rank, workers, shares } = stage.group;
    this.decays = decaysOf(graph, roles, sharing);
    this.way = wayOf(stage);
    const options = { input, output, inputGradient, recompute, stashBytes };
    if (isSharded(sharing)) {
      const ranks = workers.length;
      const among = { kind: sharing, rank, ranks, shares: { weights: shares } };
      this.trained = shardChunk(graph, roles, { ...options, ...among });
      this.graphs = this.trained.values;
    } else {
      const { microBatches } = this.way;
      const scaledLoss = isScaled(stage.optimizer);
      this.trained = trainingGraphs(graph, roles, { ...options, microBatches, split, scaledLoss });
      this.graphs = this.trained;
    }
  }

  /**
   * @param collectives of the members of the stage.
   * @param before the chunk of the stage that is next before this one in the model, where there is one.
   * @throws EngineError when the engine refuses a graph, or has no memory for it.
   */
  async build(engine: Engine, collectives: Collectives, before?: Chunk): Promise<void> {
    const { totalParameters, seed } = this.stage;
    const { trained } = this;
    const options: ExecutorOptions = { slots: this.held.length, ...this.way, totalParameters, seed };
    if ("values" in trained) {
      this.executor = await ShardExecutor.create(engine, trained, collectives, options);
      return;
    }
    const lent = before?.whole && ((slot: number) => before.whole!.outgoing(slot));
    this.isJoined = lent !== undefined;
    this.whole = await StageExecutor.create(engine, trained, { ...options, ...(lent && { lent }) });
    this.executor = this.whole;
  }

  /**
   * Goes on with other micro-batches, while nothing is under way; not where it runs a part of the chunk.
   * @throws EngineError when the engine has no memory for more at once.
   */
  dealAnew({ chunks, group }: StageSpec, slots: Slots): void {
    this.use(slots);
    this.spec = chunks[this.index]!;
    this.decays = decaysOf(decodeModel(this.spec.graph.bytes), this.spec.roles, group.sharing);
  }

  /** Has micro-batches in these slots from here on. @throws EngineError when the engine has no memory for more at once. */
  use(slots: Slots): void {
    if (slots === this.slots) return;
    this.whole!.grow(slots.counts[this.index]!);
    this.slots = slots;
    while (this.held.length < slots.counts[this.index]!) this.held.push([]);
  }

  /** Keeps gradients as they are, until the next time: they are about to be added up over members. */
  async keepSummands(): Promise<void> {
    for (const { name } of this.graphs.parameters) {
      const gradient = await this.executor.gradient(name);
      const kept = this.summands.get(name);
      if (kept) kept.bytes.set(gradient.bytes);
      else this.summands.set(name, new Tensor(gradient.dtype, gradient.shape, gradient.bytes.slice()));
    }
    this.isAddedUp = true;
  }

  /** A step begins, or is gone on with, in these slots. */
  begin(slots: Slots): void {
    this.isAddedUp = false;
    this.use(slots);
  }

  /** Gradients are the member's own again. */
  async takeApart(): Promise<void> {
    if (!this.isAddedUp) return;
    this.isAddedUp = false;
    for (const [name, kept] of this.summands) await this.whole!.putGradient(name, kept);
  }

  /** Resolves when its slots are in use for nothing, whatever has become of it. */
  async atRest(): Promise<void> {
    for (const held of this.held) while (held.length > 0) await Promise.allSettled(held.splice(0));
  }

  slotOf(microBatch: number): number {
    return this.slots.slotOf(this.index, microBatch);
  }

  /** The slot of a micro-batch that comes into it now, after all that it was held for before. */
  async claim(step: number, microBatch: number): Promise<number> {
    const slot = this.slotOf(microBatch);
    // A kernel may be followed by a send.
    for (let held = this.held[slot]!; held.length > 0; ) await Promise.all(held.splice(0));
    this.executor.place(slot, step, microBatch);
    return slot;
  }

  /** A value of a micro-batch: a view. */
  value(microBatch: number, name: string): Tensor {
    return this.executor.value(this.slotOf(microBatch), name);
  }

  /** Copies a value of a micro-batch in, unless training has no use for it. */
  write(microBatch: number, name: string, tensor: Tensor): void {
    if (this.executor.has(name)) this.executor.write(this.slotOf(microBatch), name, tensor);
  }

  /** A micro-batch's slot is in use until this has settled. */
  holdUntil(microBatch: number, ended: Promise<unknown>): void {
    this.held[this.slotOf(microBatch)]!.push(ended);
  }

  /** Nothing that slots were in use for matters any more: nothing runs, and what was sent from there is for nobody. */
  letGo(): void {
    for (const held of this.held) held.length = 0;
  }

  release(): void {
    this.executor?.release();
  }
}

/** What training changes of these chunks, by name: views; all of it, or those of `names` that there are. */
export async function stateOf(
  chunks: readonly Chunk[],
  names: readonly string[] | null,
): Promise<Record<string, Tensor>> {
  const found: Record<string, Tensor> = {};
  for (const { executor } of chunks) {
    for (const [name, tensor] of await executor.tensors(names ?? undefined)) found[name] = tensor;
  }
  return found;
}

/** What these chunks hold of the model. @param state what training changes of them. @param follows how it is followed. */
export function holdingsOf(
  chunks: readonly Chunk[],
  state: Readonly<Record<string, Tensor>>,
  follows: Followable | null,
): StageHoldings {
  const changingBytes = bytesOf(state);
  const gains = follows !== null && mostUpdates(changingBytes, follows.bytes) > 0;
  return {
    parameters: chunks.flatMap(({ graphs }) => graphs.parameters.map(({ name }) => name)),
    changing: Object.keys(state),
    changingBytes,
    gradientBytes: gains ? follows.bytes : null,
    cuts: Object.fromEntries(chunks.flatMap(({ executor }) => [...executor.cuts])),
  };
}

function decaysOf(graph: Graph, { statistics }: Roles, sharing: Sharing | null): ReadonlyMap<string, number> {
  return sharing === "data" ? statisticDecays(graph, statistics) : new Map();
}

/** A step's gradients together; those of each micro-batch by themselves; or those of the member's own. */
function wayOf({ program, group, optimizer, microBatches }: StageSpec): Way {
  const { operations } = program;
  if (operations.some(({ op }) => op === "update")) {
    return { optimizer: perMicroBatch(optimizer, microBatches), microBatches: 1 };
  }
  if (group.sharing !== "local") return { optimizer, microBatches };
  return { optimizer, microBatches: microBatchesOf(program).size, outer: DILOCO };
}
