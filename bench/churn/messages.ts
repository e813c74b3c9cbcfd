/**
 * What stages send each other in a step of a simulation of churn: who has which micro-batch, what has come to it and when,
 * and who keeps what was sent. A message takes the link between the two, and their ways out and in, in turn, as in the
 * simulator (`simulate/engine.ts`).
 */

import { transferMs } from "../../actors/scheduler/cost.ts";
import type { MicroBatchOperation } from "../../actors/scheduler/program.ts";
import type { ChunkCost, RunCost } from "../../actors/scheduler/run-cost.ts";

const NOBODY = -1;
const NEVER = Number.POSITIVE_INFINITY;

export class Messages {
  private readonly cost: RunCost;
  private readonly microBatches: number;
  private readonly stages: number;
  /** By stage and micro-batch, whose it is; and of what comes there, activations first: from whom, when, how many bytes. */
  private readonly owners: Int32Array;
  private readonly senders: Int32Array;
  private readonly arrivals: Float64Array;
  private readonly lineFreeMs = new Map<number, number>();
  private readonly outFreeMs: Float64Array;
  private readonly inFreeMs: Float64Array;

  constructor(cost: RunCost, stages: number, microBatches: number) {
    this.cost = cost;
    this.stages = stages;
    this.microBatches = microBatches;
    const count = stages * microBatches;
    this.owners = new Int32Array(count).fill(NOBODY);
    this.senders = new Int32Array(2 * count).fill(NOBODY);
    this.arrivals = new Float64Array(2 * count).fill(NEVER);
    const machines = 1 + Math.max(0, ...(cost.interfaces ?? []).map(({ machine }) => machine));
    this.outFreeMs = new Float64Array(machines);
    this.inFreeMs = new Float64Array(machines);
  }

  /** When what a receive is for is there; infinite as long as nobody has sent it. */
  arrivalMs({ op, microBatch }: MicroBatchOperation, stage: number): number {
    return this.arrivals[this.place(op === "receive-activation", stage, microBatch)]!;
  }

  /** @returns when it is there, and with whom. */
  send(
    { op, microBatch }: MicroBatchOperation,
    stage: number,
    sender: number,
    own: ChunkCost,
    now: number,
  ): { readonly receiver: number; readonly arrivalMs: number } {
    const isDown = op === "send-activation";
    const to = isDown ? stage + 1 : stage - 1;
    const place = this.place(isDown, to, microBatch);
    const receiver = this.owners[to * this.microBatches + microBatch]!;
    const { outputBytes } = isDown ? own : this.cost.chunks[receiver]![0]!;
    const arrivalMs = this.transfer(sender, receiver, outputBytes, now);
    this.senders[place] = sender;
    // It may have come before, from one that is lost.
    this.arrivals[place] = Math.min(this.arrivals[place]!, arrivalMs);
    return { receiver, arrivalMs };
  }

  /** What one that is lost has sent, and has not come, never does. */
  lose(member: number, leftMs: number): void {
    const { senders, arrivals } = this;
    for (let place = 0; place < senders.length; place++) {
      if (senders[place] !== member) continue;
      senders[place] = NOBODY;
      if (arrivals[place]! > leftMs) arrivals[place] = NEVER;
    }
  }

  /**
   * A micro-batch of a stage is a member's. What others have sent for it is sent to that one.
   * @returns when that is there.
   */
  own(
    stage: number,
    microBatch: number,
    member: number,
    now: number,
    costOf: (member: number) => ChunkCost,
  ): readonly number[] {
    const at = stage * this.microBatches + microBatch;
    if (this.owners[at] === member) return [];
    this.owners[at] = member;
    return [true, false].flatMap((isDown) => {
      const place = this.place(isDown, stage, microBatch);
      const sender = this.senders[place]!;
      this.arrivals[place] = NEVER;
      if (sender === NOBODY) return [];
      const { outputBytes } = costOf(isDown ? sender : member);
      const arrivalMs = this.transfer(sender, member, outputBytes, now);
      this.arrivals[place] = arrivalMs;
      return [arrivalMs];
    });
  }

  private place(isDown: boolean, stage: number, microBatch: number): number {
    return ((isDown ? 0 : this.stages) + stage) * this.microBatches + microBatch;
  }

  private transfer(from: number, to: number, bytes: number, now: number): number {
    const { cost, lineFreeMs, outFreeMs, inFreeMs } = this;
    const link = cost.link(from, to);
    const line = from * cost.chunks.length + to;
    const [out, into] = [cost.interfaces?.[from], cost.interfaces?.[to]];
    let start = Math.max(now, lineFreeMs.get(line) ?? 0);
    if (out && into && out.machine !== into.machine) {
      start = Math.max(start, outFreeMs[out.machine]!, inFreeMs[into.machine]!);
      outFreeMs[out.machine] = Math.max(now, outFreeMs[out.machine]!) + bytes / out.upBytesPerMs;
      inFreeMs[into.machine] = Math.max(now, inFreeMs[into.machine]!) + bytes / into.downBytesPerMs;
    }
    const end = start + transferMs(bytes, link);
    lineFreeMs.set(line, end);
    return end + link.latencyMs;
  }
}
