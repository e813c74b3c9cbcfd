/** One chunk of a stage: what runs it, and where each micro-batch of the program is in it. */

import type { Engine } from "../../nn/engine/engine.ts";
import { StageExecutor } from "../../nn/executor.ts";
import { decodeModel } from "../../nn/onnx/proto.ts";
import { isScaled } from "../../nn/optim/loss-scale.ts";
import { statisticDecays } from "../../nn/training/decay.ts";
import { type StageGraphs, trainingGraphs } from "../../nn/training.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { isOfMicroBatch } from "../scheduler/program.ts";
import { isDealt } from "../scheduler/routes.ts";
import type { Slots } from "./slots.ts";
import type { ChunkSpec, StageSpec } from "./spec.ts";

export class Chunk {
  /** Index into the program's positions. */
  readonly index: number;
  readonly position: number;
  readonly spec: ChunkSpec;
  readonly graphs: StageGraphs;
  /** How its running statistics forget, where micro-batches are shared. */
  readonly decays: ReadonlyMap<string, number>;
  executor!: StageExecutor;
  private readonly stage: StageSpec;
  private readonly slots: Slots;
  /** What is sent from a slot and has not gone. */
  private readonly sending: Promise<unknown>[][];

  /** @throws GraphError for a graph that cannot be trained. */
  constructor(index: number, stage: StageSpec, slots: Slots) {
    this.index = index;
    this.stage = stage;
    this.slots = slots;
    this.spec = stage.chunks[index]!;
    this.position = stage.program.positions[index]!;
    this.sending = Array.from({ length: slots.counts[index]! }, () => []);
    const { recompute, stashBytes, microBatches, optimizer, program } = stage;
    const split = program.operations.some(
      (operation) =>
        isOfMicroBatch(operation) && (operation.chunk ?? 0) === index && operation.op.startsWith("backward-"),
    );
    const graph = decodeModel(this.spec.graph.bytes);
    const { statistics } = this.spec.roles;
    this.decays = isDealt(stage.group.sharing) ? statisticDecays(graph, statistics) : new Map();
    this.graphs = trainingGraphs(graph, this.spec.roles, {
      ...{ ...this.spec, recompute, stashBytes, microBatches, split, scaledLoss: isScaled(optimizer) },
    });
  }

  /** @throws EngineError when the engine refuses a graph, or has no memory for it. */
  async build(engine: Engine): Promise<void> {
    const { optimizer, totalParameters, microBatches, seed } = this.stage;
    this.executor = await StageExecutor.create(engine, this.graphs, {
      slots: this.sending.length,
      ...{ optimizer, totalParameters, microBatches, seed },
    });
  }

  slotOf(microBatch: number): number {
    return this.slots.slotOf(this.index, microBatch);
  }

  /** The slot of a micro-batch that comes into it now, after what was sent from there has gone. */
  async claim(step: number, microBatch: number): Promise<number> {
    const slot = this.slotOf(microBatch);
    const sends = this.sending[slot]!.splice(0);
    if (sends.length > 0) await Promise.all(sends);
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
  holdUntil(microBatch: number, sent: Promise<unknown>): void {
    this.sending[this.slotOf(microBatch)]!.push(sent);
  }

  release(): void {
    this.executor?.release();
  }
}
