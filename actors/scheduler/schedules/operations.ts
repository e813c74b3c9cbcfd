/**
 * From what lanes do in which order to the programs of their workers: kernels chunk by chunk, and around them the messages
 * to and from other stages. What follows on the same worker is handed on without a message.
 *
 * Of a stage that shares the work inside micro-batches all ranks do the same and receive the same, and one of them, the
 * speaker, sends: rank m mod ranks for micro-batch m.
 */

import type { KernelKind, MessageKind, MicroBatchOperation, Operation, StageProgram } from "../program.ts";
import type { Layout, Run } from "./layout.ts";
import type { Unit } from "./order.ts";
import type { PipelineShape } from "./shape.ts";

/**
 * The program of every worker, stage after stage and member after member.
 * @param update whether every micro-batch's gradients are used at once.
 */
export function programsOf(
  shape: PipelineShape,
  layout: Layout,
  orders: readonly (readonly Unit[])[],
  update: boolean,
): readonly StageProgram[] {
  const holders: number[] = [];
  shape.stages.forEach(({ positions }, stage) => {
    for (const position of positions) holders[position] = stage;
  });
  const programs: StageProgram[] = [];
  // Lanes come stage after stage, and within a stage by rank: so do workers.
  for (const [lane, { stage, ranks }] of layout.lanes.entries()) {
    const { positions } = shape.stages[stage]!;
    for (const rank of ranks) {
      const writer = new Writer(shape, holders, stage, rank, ranks.length, update);
      for (const unit of orders[lane]!) writer.unit(unit);
      programs.push({ worker: programs.length, stage, positions, operations: writer.finish() });
    }
  }
  return programs;
}

/** Operations of programs of one chunk, by micro-batch: with every loss there are programs with nearly all of the same ones. */
const known = new Map<KernelKind | MessageKind, MicroBatchOperation[]>();
/** Of no more micro-batches than that are they kept. */
const MOST_KNOWN = 2 ** 16;

function operationOf(op: KernelKind | MessageKind, microBatch: number): MicroBatchOperation {
  if (microBatch >= MOST_KNOWN) return { op, microBatch };
  let own = known.get(op);
  if (!own) {
    own = [];
    known.set(op, own);
  }
  own[microBatch] ??= { op, microBatch };
  return own[microBatch];
}

class Writer {
  private readonly operations: Operation[] = [];
  private readonly shape: PipelineShape;
  private readonly holders: readonly number[];
  private readonly stage: number;
  private readonly rank: number;
  private readonly ranks: number;
  private readonly update: boolean;
  private readonly positions: readonly number[];
  /** Whether members add up their gradients. */
  private readonly reduces: boolean;
  /** By chunk: backward passes that are still to come. */
  private readonly left: number[];
  private readonly upward = new Map<Run, readonly number[]>();

  constructor(
    shape: PipelineShape,
    holders: readonly number[],
    ...[stage, rank, ranks, update]: readonly [number, number, number, boolean]
  ) {
    this.shape = shape;
    this.holders = holders;
    this.stage = stage;
    this.rank = rank;
    this.ranks = ranks;
    this.update = update;
    const { positions, sharing, members } = shape.stages[stage]!;
    this.positions = positions;
    this.reduces = members.length > 1 && sharing === "data";
    this.left = positions.map(() => members[rank]!.length);
  }

  unit({ pass, run, microBatch }: Unit): void {
    if (pass === "forward") {
      for (const chunk of run.chunks) this.forward(chunk, microBatch, "forward");
      return;
    }
    const upward = this.upwardOf(run);
    switch (pass) {
      case "both": {
        const last = run.chunks.at(-1)!;
        for (const chunk of run.chunks) {
          this.forward(chunk, microBatch, chunk === last ? "forward-backward" : "forward");
        }
        for (const chunk of upward) {
          if (chunk === last) this.passOn(chunk, microBatch);
          else this.backward(chunk, microBatch, "backward");
          this.complete(chunk, microBatch);
        }
        return;
      }
      case "weight":
        for (const chunk of upward) {
          this.on("backward-weight", microBatch, chunk);
          this.complete(chunk, microBatch);
        }
        return;
      default:
        for (const chunk of upward) {
          this.backward(chunk, microBatch, pass === "input" ? "backward-input" : "backward");
          if (pass === "backward") this.complete(chunk, microBatch);
        }
    }
  }

  /** Chunks of a run that are trained, as gradients come to them. */
  private upwardOf(run: Run): readonly number[] {
    let upward = this.upward.get(run);
    if (!upward) {
      upward = run.chunks.toReversed().filter((chunk) => this.trained(chunk));
      this.upward.set(run, upward);
    }
    return upward;
  }

  /** The whole list. */
  finish(): readonly Operation[] {
    // Whoever had no micro-batch of a chunk has nothing to add, and the others wait for it all the same.
    if (this.reduces && this.shape.stages[this.stage]!.members[this.rank]!.length === 0) {
      for (const chunk of this.positions.keys()) if (this.trained(chunk)) this.reduce(chunk);
    }
    this.operations.push({ op: "step" });
    return this.operations;
  }

  private forward(chunk: number, microBatch: number, op: KernelKind): void {
    const position = this.positions[chunk]!;
    if (this.isElsewhere(position - 1)) this.on("receive-activation", microBatch, chunk);
    this.on(op, microBatch, chunk);
    if (this.isElsewhere(position + 1) && this.speaks(microBatch))
      this.on("send-activation", microBatch, chunk);
  }

  private backward(chunk: number, microBatch: number, op: KernelKind): void {
    if (this.isElsewhere(this.positions[chunk]! + 1)) this.on("receive-gradient", microBatch, chunk);
    this.on(op, microBatch, chunk);
    this.passOn(chunk, microBatch);
  }

  /** The gradient, to the position in front, where it is wanted. */
  private passOn(chunk: number, microBatch: number): void {
    const position = this.positions[chunk]!;
    if (position <= this.shape.forwardOnly || !this.isElsewhere(position - 1)) return;
    if (this.speaks(microBatch)) this.on("send-gradient", microBatch, chunk);
  }

  /** A micro-batch's gradients of the chunk are there. */
  private complete(chunk: number, microBatch: number): void {
    if (this.update) this.operations.push({ op: "update", microBatch, ...this.naming(chunk) });
    this.left[chunk]!--;
    if (this.reduces && this.left[chunk] === 0) this.reduce(chunk);
  }

  private reduce(chunk: number): void {
    this.operations.push({ op: "reduce", ...this.naming(chunk) });
  }

  private on(op: KernelKind | MessageKind, microBatch: number, chunk: number): void {
    // Spreading what may be empty takes several times as long, and there are millions of these.
    this.operations.push(this.positions.length > 1 ? { op, microBatch, chunk } : operationOf(op, microBatch));
  }

  private naming(chunk: number): { readonly chunk?: number } {
    return this.positions.length > 1 ? { chunk } : {};
  }

  private isElsewhere(position: number): boolean {
    const holder = this.holders[position];
    return holder !== undefined && holder !== this.stage;
  }

  private speaks(microBatch: number): boolean {
    return this.ranks === 1 || microBatch % this.ranks === this.rank;
  }

  private trained(chunk: number): boolean {
    return this.positions[chunk]! >= this.shape.forwardOnly;
  }
}
