/**
 * What a lost device's micro-batches would be done in front of, and behind, if what is left of a step were not put in a new order
 * (`scheduler/schedules/order.ts`), as runs do it, but in that of the step as it was begun. Each pass has its time in that step as
 * it was predicted; whoever is dealt a lost one's passes has all it does by that time, and stages that have lost nobody go on as
 * they do. Whatever is first by that time, of all that is left, waits for nothing: so nothing waits for itself.
 *
 * And what a device would do that waits: one of the next passes whose input is there, in front of that which it waits for.
 */

import {
  isBackward,
  isOfMicroBatch,
  type MicroBatchOperation,
  type Operation,
  type StageProgram,
} from "../../actors/scheduler/program.ts";
import type { Span } from "../../actors/scheduler/timeline.ts";

/** A pass of a micro-batch, with what comes before it and what is sent behind it. */
interface Pass {
  readonly beganMs: number;
  readonly operations: MicroBatchOperation[];
}

/** Of a step in which each stage has one chunk. */
export class Order {
  /** By stage and micro-batch. */
  private readonly passes: readonly Map<number, Pass[]>[];

  /** @param spans of the step as it was begun, by these programs. */
  constructor(programs: readonly StageProgram[], spans: readonly Span[]) {
    const began = programs.map(() => new Map<Operation, number>());
    for (const { worker, operation, startMs } of spans) began[worker]!.set(operation, startMs);
    const stages = 1 + Math.max(...programs.map(({ stage }) => stage));
    this.passes = Array.from({ length: stages }, () => new Map());
    for (const { worker, stage, operations } of programs) {
      let received: MicroBatchOperation[] = [];
      let pass: Pass | undefined;
      for (const operation of operations) {
        if (!isOfMicroBatch(operation)) continue;
        if (isReceive(operation)) received.push(operation);
        else if (isSend(operation)) pass!.operations.push(operation);
        else {
          pass = { beganMs: began[worker]!.get(operation)!, operations: [...received, operation] };
          received = [];
          const own = this.passes[stage]!.get(operation.microBatch);
          if (own) own.push(pass);
          else this.passes[stage]!.set(operation.microBatch, [pass]);
        }
      }
    }
  }

  /** What a member of a stage does that has these micro-batches. */
  operations(stage: number, microBatches: readonly number[]): readonly Operation[] {
    const passes = microBatches.flatMap((microBatch) => this.passes[stage]!.get(microBatch)!);
    const inTurn = passes.sort((a, b) => a.beganMs - b.beganMs).flatMap(({ operations }) => operations);
    return [...inTurn, { op: "reduce" }, { op: "step" }];
  }
}

/**
 * Operations with a pass in front of the next ones whose input is there, at most so many passes ahead.
 * @returns null where there is none.
 */
export function withReadyFirst(
  operations: readonly Operation[],
  next: number,
  ahead: number,
  isThere: (receive: MicroBatchOperation) => boolean,
): readonly Operation[] | null {
  const left = new Set<number>();
  for (let at = next, passed = 0; passed <= ahead; passed++) {
    let end = at;
    let can = true;
    for (let isDone = false; end < operations.length; end++) {
      const operation = operations[end]!;
      if (!isOfMicroBatch(operation)) break;
      if (isDone && !isSend(operation)) break;
      if (isReceive(operation)) can &&= isThere(operation);
      else if (!isSend(operation)) {
        isDone = true;
        // Not behind a forward pass of its own that is still to come.
        can &&= !(isBackward(operation) && left.has(operation.microBatch));
        left.add(operation.microBatch);
      }
    }
    if (end === at) return null;
    if (can) {
      const before = operations.slice(next, at);
      return [
        ...operations.slice(0, next),
        ...operations.slice(at, end),
        ...before,
        ...operations.slice(end),
      ];
    }
    at = end;
  }
  return null;
}

export function isReceive({ op }: MicroBatchOperation): boolean {
  return op === "receive-activation" || op === "receive-gradient";
}

export function isSend({ op }: MicroBatchOperation): boolean {
  return op === "send-activation" || op === "send-gradient";
}
