/** What a stage keeps account of in one step: where the time goes, and which micro-batch is in which slot. */

import type { OperationSpan } from "./stage.ts";

export class StepRun {
  kernelMs = 0;
  copyMs = 0;
  waitMs = 0;
  readonly losses: number[];
  readonly spans: OperationSpan[] = [];
  private readonly slots = new Map<number, number>();
  private readonly halves = new Set<number>();

  constructor(microBatches: number) {
    this.losses = new Array(microBatches).fill(Number.NaN);
  }

  claimSlot(microBatch: number): number {
    const held = this.slots.get(microBatch);
    if (held !== undefined) return held;
    const taken = new Set(this.slots.values());
    let slot = 0;
    while (taken.has(slot)) slot++;
    this.slots.set(microBatch, slot);
    return slot;
  }

  slotOf(microBatch: number): number {
    return this.slots.get(microBatch)!;
  }

  /** Of two things that have to be done before a slot is free: whether this is the second. */
  halfDone(microBatch: number): boolean {
    if (this.halves.delete(microBatch)) return true;
    this.halves.add(microBatch);
    return false;
  }

  freeSlot(microBatch: number): void {
    this.slots.delete(microBatch);
  }
}
