/**
 * What carries out the operations of a program, one after the other, each as soon as its input is there. Receives wait,
 * kernels run one at a time in the engine, and the next one is asked for while one runs (`kernels.ts`); what comes out of a
 * kernel is sent when it has ended, whatever the program has come to meanwhile, and from one chunk of the stage to the next
 * it is handed on.
 */

import type { UpdateResult } from "../../nn/executor.ts";
import { gradientName } from "../../nn/training.ts";
import { byteLength, type Tensor } from "../../protocols/tensor.ts";
import type { Clock } from "../../runtime/index.ts";
import type { Injector } from "../chaos/injector.ts";
import type { GroupCollectives } from "../collectives/group.ts";
import { CalledBack, type Slip } from "../inbox.ts";
import { isSharded } from "../scheduler/plan.ts";
import {
  isBackward,
  isOfMicroBatch,
  type KernelKind,
  type MicroBatchOperation,
  type Operation,
  type UpdateOperation,
} from "../scheduler/program.ts";
import type { StepRun } from "../step-run.ts";
import type { Chunk } from "./chunk.ts";
import type { Clearing } from "./clearing.ts";
import type { Mail } from "./mail.ts";
import type { Slots } from "./slots.ts";
import type { ByMicroBatch, OperationSpan, StageSpec } from "./spec.ts";
import type { DealtStatistics } from "./statistics.ts";
import type { Supply } from "./supply.ts";

/** What a stage is made of. */
export interface Parts {
  readonly spec: StageSpec;
  readonly chunks: readonly Chunk[];
  readonly slots: Slots;
  readonly mail: Mail;
  readonly supply: Supply;
  readonly collectives: GroupCollectives;
  /** By chunk; where there is no need, left out. */
  readonly statistics: readonly DealtStatistics[];
  readonly clearing: Clearing;
  readonly clock: Clock;
  /** Of a device that may be made to fail. */
  readonly injector: Injector | undefined;
  /** Ends all that waits: nothing more will come. */
  readonly fail: (error: Error) => void;
}

export class Worker {
  /** Of asynchronous updates, the last of each chunk. */
  readonly updated: UpdateResult[] = [];
  private readonly parts: Parts;

  constructor(parts: Parts) {
    this.parts = parts;
  }

  /** @param index of the operation in the program. */
  async carryOut(operation: Operation, index: number, run: StepRun): Promise<void> {
    const fault = this.parts.injector?.carriesOut(operation, run.step);
    if (fault) await fault;
    if (operation.op === "reduce") this.reduce(operation.chunk ?? 0, index, run);
    else if (operation.op === "update") await this.update(operation, index, run);
    else if (isOfMicroBatch(operation)) {
      const { op } = operation;
      if (op === "receive-activation" || op === "receive-gradient") await this.take(operation, index, run);
      else if (op === "send-activation" || op === "send-gradient") this.give(operation, index, run);
      else await this.compute({ ...operation, op }, index, run);
    }
  }

  /** Whether the stage itself takes what a chunk makes of a micro-batch. */
  static isOwn({ microBatches, program }: StageSpec, to: ByMicroBatch, microBatch: number): boolean {
    return to[microBatch % microBatches]?.includes(program.worker) ?? false;
  }

  private async update(operation: UpdateOperation, index: number, run: StepRun): Promise<void> {
    const { clock, chunks, spec } = this.parts;
    const { chunk = 0, microBatch } = operation;
    await run.kernels.ended();
    const start = clock.now();
    this.updated[chunk] = await chunks[chunk]!.whole!.updateNow(run.step * spec.microBatches + microBatch);
    const end = clock.now();
    run.kernelMs += end - start;
    run.performed[index] = { ...operation, start, end, kernelMs: end - start };
  }

  /** Waits for what another stage sends. */
  private async take(operation: MicroBatchOperation, index: number, run: StepRun): Promise<void> {
    const { clock, chunks, mail } = this.parts;
    const { op, microBatch } = operation;
    const start = clock.now();
    const chunk = chunks[operation.chunk ?? 0]!;
    const { input, output } = chunk.spec;
    const isForward = op === "receive-activation";
    const slip = mail.slip("train", run.step, microBatch, isForward ? input! : gradientName(output!));
    if (isForward) await chunk.claim(run.step, microBatch);
    await this.receive(chunk, slip, mail.inbox.take(slip), run);
    run.performed[index] = { ...operation, start, end: clock.now(), kernelMs: 0 };
  }

  /** Asks for a kernel, and waits for its end only where the stage itself goes on with what it makes. */
  private async compute(operation: KernelOperation, index: number, run: StepRun): Promise<void> {
    const { clock, chunks, clearing, statistics, spec } = this.parts;
    const { op, microBatch } = operation;
    const { kernels, accounted } = run;
    const began = clock.now();
    const chunk = chunks[operation.chunk ?? 0]!;
    const { graphs, executor } = chunk;
    const { output, next, previous } = chunk.spec;
    const isForward = op === "forward" || op === "forward-backward";
    const slot = isForward ? await chunk.claim(run.step, microBatch) : chunk.slotOf(microBatch);
    // Statistics move with every pass, and are carried from one to the next here.
    const isMoved = Object.keys(chunk.spec.roles.statistics).length > 0;
    await (isMoved ? kernels.ended() : kernels.room());
    if (isForward) {
      await this.supplied(chunk, microBatch, run);
      await statistics[chunk.index]?.before(microBatch);
    }
    const runs: Readonly<Record<KernelKind, () => Promise<number>>> = {
      forward: () => executor.forward(slot),
      "forward-backward": () => executor.joint(slot),
      backward: () => executor.backward(slot),
      "backward-input": () => executor.backwardInput(slot),
      "backward-weight": () => executor.backwardWeights(slot),
    };
    const kernel = clearing.during(runs[op]());
    const done = kernels.add(chunk.index, microBatch, kernel, (start, end, kernelMs) => {
      run.kernelMs += kernelMs;
      run.performed[index] = { ...operation, start, end, kernelMs };
      if (isForward && output === null) {
        run.losses[microBatch] = chunk.value(microBatch, graphs.result).f32()[0]!;
      }
    });
    chunk.holdUntil(microBatch, done);
    if (isSharded(spec.group.sharing)) {
      // All members meet in the same order; what is left of a pass is their meetings.
      await done;
      run.reduceMs += clock.now() - began - (run.accounted - accounted);
    }
    const to = op === "forward" ? next : isBackward(operation) && op !== "backward-weight" ? previous : [];
    if (!Worker.isOwn(spec, to, microBatch)) return;
    const step = op === "forward" ? 1 : -1;
    const neighbour = chunks[spec.program.positions.indexOf(chunk.position + step)]!;
    const isJoined = step > 0 ? neighbour.isJoined : chunk.isJoined;
    // Kernels run in the order they are asked for, and those that move statistics are not asked for at once.
    if (!isJoined || isMoved) await done;
    if (!isJoined) await this.handOn(chunk, neighbour, microBatch, run);
  }

  /** Adds a chunk's gradients up over the members of the stage when they are complete, without waiting. */
  private reduce(at: number, index: number, run: StepRun): void {
    const { clock, chunks, collectives, clearing, spec, fail } = this.parts;
    const { executor, graphs, position } = chunks[at]!;
    const reduced = run.kernels.ended().then(async () => {
      const start = clock.now();
      if (spec.keepsSummands) await chunks[at]!.keepSummands();
      await executor.reduce(`gradients/${position}`, collectives);
      const span: OperationSpan = { op: "reduce", microBatch: 0, start, end: clock.now(), kernelMs: 0 };
      run.performed[index] = chunks.length > 1 ? { ...span, chunk: at } : span;
      for (const { dtype, shape } of graphs.parameters) clearing.count(byteLength(dtype, shape));
    });
    // What else the stage waits for may never come then.
    reduced.catch((error) => {
      if (!(error instanceof CalledBack)) fail(error);
    });
    run.background.push(reduced);
  }

  /** Waits for what a micro-batch reads of the data source. Where that is called back, all of it comes again. */
  private async supplied(chunk: Chunk, microBatch: number, run: StepRun): Promise<void> {
    const { mail, supply } = this.parts;
    const taken: [Slip, Tensor][] = [];
    try {
      for (const { name } of chunk.graphs.data) {
        const slip = mail.slip("train", run.step, microBatch, name);
        taken.push([slip, await this.receive(chunk, slip, supply.take(slip), run)]);
      }
    } catch (error) {
      for (const [slip, tensor] of taken) mail.inbox.putBack(slip, tensor);
      throw error;
    }
  }

  private async receive(chunk: Chunk, slip: Slip, coming: Promise<Tensor>, run: StepRun): Promise<Tensor> {
    const { clock, clearing } = this.parts;
    const asked = clock.now();
    const tensor = await coming;
    run.waitMs += run.kernels.idleSince(asked);
    const came = clock.now();
    chunk.write(slip.microBatch, slip.value, tensor);
    run.copyMs += run.kernels.idleSince(came);
    clearing.count(tensor.bytes.byteLength);
    return tensor;
  }

  /** What a chunk has made of a micro-batch goes to the stage's own chunk next to it. */
  private async handOn(chunk: Chunk, next: Chunk, microBatch: number, run: StepRun): Promise<void> {
    const { clock } = this.parts;
    const { input, output } = chunk.spec;
    const isForward = next.position > chunk.position;
    const name = isForward ? output! : gradientName(input!);
    if (isForward) await next.claim(run.step, microBatch);
    const start = clock.now();
    next.write(microBatch, name, chunk.value(microBatch, name));
    run.copyMs += clock.now() - start;
  }

  /** Sends what the kernels before it make, without waiting for them or for its arrival. */
  private give(operation: MicroBatchOperation, index: number, run: StepRun): void {
    const { clock, chunks, fail } = this.parts;
    const { op, microBatch } = operation;
    const chunk = chunks[operation.chunk ?? 0]!;
    const given = run.kernels.after(chunk.index, microBatch).then(async () => {
      const start = clock.now();
      await this.send(chunk, op === "send-activation", microBatch, index, run.step);
      run.performed[index] = { ...operation, start, end: clock.now(), kernelMs: 0 };
    });
    given.catch(fail);
    chunk.holdUntil(microBatch, given);
  }

  /** Resolves when it is on its way; a failure shows where the slot is claimed next, or at the scheduler. */
  private async send(chunk: Chunk, down: boolean, microBatch: number, index: number, step: number) {
    const { mail, slots, fail } = this.parts;
    const { input, output, next, previous } = chunk.spec;
    const name = down ? output! : gradientName(input!);
    const slip = mail.slip("train", step, microBatch, name);
    const workers = (down ? next : previous)[microBatch]!;
    const tensor = chunk.value(microBatch, name);
    if (mail.keepsSent) {
      mail.post(workers, slip, tensor);
      return;
    }
    const leaves = slots.last.has(index);
    const sent = leaves
      ? (await mail.giveCopy(workers, slip, tensor)).sent
      : mail.send(workers, slip, tensor);
    sent.catch(fail);
    if (!leaves) chunk.holdUntil(microBatch, sent);
  }
}

type KernelOperation = MicroBatchOperation & { readonly op: KernelKind };
