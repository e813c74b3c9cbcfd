/**
 * What carries out the operations of a program, one after the other, each as soon as its input is there. Receives wait,
 * kernels run one at a time in the engine, sends go out while the next kernel runs, and from one chunk of the stage to the
 * next a value is handed on.
 */

import type { UpdateResult } from "../../nn/executor.ts";
import { gradientName } from "../../nn/training.ts";
import { byteLength, type Tensor } from "../../protocols/tensor.ts";
import type { Clock } from "../../runtime/index.ts";
import type { RingCollectives } from "../collectives/ring.ts";
import type { Slip } from "../inbox.ts";
import { isSharded } from "../scheduler/plan.ts";
import {
  isBackward,
  isOfMicroBatch,
  type MicroBatchOperation,
  type Operation,
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
  readonly collectives: RingCollectives;
  /** By chunk; where there is no need, left out. */
  readonly statistics: readonly DealtStatistics[];
  readonly clearing: Clearing;
  readonly clock: Clock;
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
    const { clock, chunks, spec } = this.parts;
    const start = clock.now();
    if (operation.op === "reduce") this.reduce(operation.chunk ?? 0, run);
    else if (operation.op === "update") {
      const { chunk = 0, microBatch } = operation;
      this.updated[chunk] = await chunks[chunk]!.whole!.updateNow(run.step * spec.microBatches + microBatch);
      const end = clock.now();
      run.kernelMs += end - start;
      run.spans.push({ ...operation, start, end, kernelMs: end - start });
    } else if (isOfMicroBatch(operation)) {
      const { kernelMs, accounted } = run;
      await this.perform(operation, index, run);
      const end = clock.now();
      run.spans.push({ ...operation, start, end, kernelMs: run.kernelMs - kernelMs });
      // What is left of a pass is collectives.
      const isPass = run.kernelMs > kernelMs;
      if (isPass && isSharded(spec.group.sharing)) run.reduceMs += end - start - (run.accounted - accounted);
    }
  }

  /** Whether the stage itself takes what a chunk makes of a micro-batch. */
  static isOwn({ microBatches, program }: StageSpec, to: ByMicroBatch, microBatch: number): boolean {
    return to[microBatch % microBatches]?.includes(program.worker) ?? false;
  }

  private async perform(operation: MicroBatchOperation, index: number, run: StepRun): Promise<void> {
    const { op, microBatch } = operation;
    const { chunks, mail, supply, statistics, clearing } = this.parts;
    const chunk = chunks[operation.chunk ?? 0]!;
    const { graphs, executor, spec } = chunk;
    const { input, output } = spec;
    const slip = (value: string) => mail.slip("train", run.step, microBatch, value);
    switch (op) {
      case "receive-activation":
        await chunk.claim(run.step, microBatch);
        return this.receive(chunk, slip(input!), mail.inbox.take(slip(input!)), run);
      case "receive-gradient": {
        const gradient = slip(gradientName(output!));
        return this.receive(chunk, gradient, mail.inbox.take(gradient), run);
      }
      case "forward":
      case "forward-backward": {
        const slot = await chunk.claim(run.step, microBatch);
        for (const { name } of graphs.data) {
          await this.receive(chunk, slip(name), supply.take(slip(name)), run);
        }
        await statistics[chunk.index]?.before(microBatch);
        const kernel = op === "forward" ? executor.forward(slot) : executor.joint(slot);
        run.kernelMs += await clearing.during(kernel);
        if (output === null) run.losses[microBatch] = chunk.value(microBatch, graphs.result).f32()[0]!;
        break;
      }
      case "backward":
        run.kernelMs += await clearing.during(executor.backward(chunk.slotOf(microBatch)));
        break;
      case "backward-input":
        run.kernelMs += await clearing.during(executor.backwardInput(chunk.slotOf(microBatch)));
        break;
      case "backward-weight":
        run.kernelMs += await clearing.during(executor.backwardWeights(chunk.slotOf(microBatch)));
        return;
      case "send-activation":
        return this.send(chunk, spec.next, slip(output!), index);
      case "send-gradient":
        return this.send(chunk, spec.previous, slip(gradientName(input!)), index);
    }
    if (op === "forward") await this.handOn(chunk, 1, spec.next, microBatch, run);
    if (isBackward(operation)) await this.handOn(chunk, -1, spec.previous, microBatch, run);
  }

  /** Adds a chunk's gradients up over the members of the stage, without waiting. */
  private reduce(index: number, run: StepRun): void {
    const { clock, chunks, collectives, clearing, fail } = this.parts;
    const { executor, graphs, position } = chunks[index]!;
    const start = clock.now();
    const reduced = executor.reduce(`${run.step}/${position}`, collectives).then(() => {
      const span: OperationSpan = { op: "reduce", microBatch: 0, start, end: clock.now(), kernelMs: 0 };
      run.spans.push(chunks.length > 1 ? { ...span, chunk: index } : span);
      for (const { dtype, shape } of graphs.parameters) clearing.count(byteLength(dtype, shape));
    });
    // What else the stage waits for may never come then.
    reduced.catch(fail);
    run.background.push(reduced);
  }

  private async receive(chunk: Chunk, slip: Slip, coming: Promise<Tensor>, run: StepRun): Promise<void> {
    const { clock, clearing } = this.parts;
    const asked = clock.now();
    const tensor = await coming;
    const came = clock.now();
    chunk.write(slip.microBatch, slip.value, tensor);
    clearing.count(tensor.bytes.byteLength);
    run.waitMs += came - asked;
    run.copyMs += clock.now() - came;
  }

  /** What a chunk has made of a micro-batch goes to the stage's own chunk next to it, where there is one. */
  private async handOn(
    chunk: Chunk,
    step: 1 | -1,
    to: ByMicroBatch,
    microBatch: number,
    run: StepRun,
  ): Promise<void> {
    const { spec, chunks, clock } = this.parts;
    if (!Worker.isOwn(spec, to, microBatch)) return;
    const next = chunks[spec.program.positions.indexOf(chunk.position + step)]!;
    const { input, output } = chunk.spec;
    const name = step > 0 ? output! : gradientName(input!);
    if (step > 0) await next.claim(run.step, microBatch);
    const start = clock.now();
    next.write(microBatch, name, chunk.value(microBatch, name));
    run.copyMs += clock.now() - start;
  }

  /** Sends without waiting for it to arrive; a failure shows where the slot is claimed next, or at the scheduler. */
  private async send(chunk: Chunk, to: ByMicroBatch, slip: Slip, index: number): Promise<void> {
    const { mail, slots, fail } = this.parts;
    const workers = to[slip.microBatch]!;
    const tensor = chunk.value(slip.microBatch, slip.value);
    const leaves = slots.last.has(index);
    const sent = leaves
      ? (await mail.giveCopy(workers, slip, tensor)).sent
      : mail.send(workers, slip, tensor);
    sent.catch(fail);
    if (!leaves) chunk.holdUntil(slip.microBatch, sent);
  }
}
