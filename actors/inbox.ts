/**
 * Tensors that have arrived and wait for their operation, and operations that wait for their tensors.
 *
 * A pipeline's neighbours run ahead of each other, so a message may come long before it is wanted. Each is kept
 * under the place it belongs to: (phase, step, micro-batch, value). Nothing is delivered twice; where givers do not know
 * what has come, because one that lived in an earlier generation has been replaced, what comes again is passed over.
 */

import type { Tensor } from "../protocols/tensor.ts";

/** Where a tensor belongs. Plain data: it travels with the tensor. */
export interface Slip {
  /** Counts the times that stages were deployed in a run; what is left over from an earlier one is refused. */
  readonly generation: number;
  readonly phase: "train" | "evaluate" | "collective";
  /** In a collective: the step of training that was begun last. */
  readonly step: number;
  /** In a collective: rank of the member that it is from. */
  readonly microBatch: number;
  /** Name of the value in the stage's graph, or key of the collective. */
  readonly value: string;
}

export class InboxError extends Error {
  readonly code = "INBOX";
  override readonly name = "InboxError";
}

/** Another stage is gone, or cannot be reached: what it would have sent will never come. */
export class NeighbourLost extends Error {
  readonly code = "NEIGHBOUR_LOST";
  override readonly name = "NeighbourLost";
}

/** A stage was told to end, by whoever it runs for or because its device leaves: what is under way is given up. */
export class Abandoned extends Error {
  readonly code = "ABANDONED";
  override readonly name = "Abandoned";
}

/** A stage comes to rest in the middle of a step, to go on with it in another way. */
export class CalledBack extends Error {
  readonly code = "CALLED_BACK";
  override readonly name = "CalledBack";
}

interface Arrived {
  readonly tensor: Tensor;
  readonly taken: () => void;
}

interface Waiting {
  readonly resolve: (tensor: Tensor) => void;
  readonly reject: (error: Error) => void;
}

/** Where a tensor belongs, as a map's key. */
export const placeOf = ({ phase, step, microBatch, value }: Omit<Slip, "generation">): string =>
  `${phase}/${step}/${microBatch}/${value}`;

export class Inbox {
  private readonly arrived = new Map<string, Arrived>();
  private readonly waiting = new Map<string, Waiting>();
  private failure: Error | undefined;
  /** Places of steps that tensors have come for, and the first step that they are known of; where it is kept. */
  private first = Number.NEGATIVE_INFINITY;
  private readonly came = new Map<number, Set<string>>();
  private readonly remembers: boolean;
  private passesOver = false;
  private calledBack: Error | undefined;

  /** @param remembers what has come in a step, so that it can be passed over if it comes again. */
  constructor(remembers = false) {
    this.remembers = remembers;
  }

  /**
   * From here on, what comes again is passed over. Not without remembering. What came for a validation pass is let go of: that
   * is begun again, and whoever gave it waits.
   */
  passOver(): void {
    this.passesOver = true;
    this.calledBack = undefined;
    this.forget("evaluate");
  }

  /** What waits now, and what would wait until `passOver`, is rejected; what has come stays. */
  callBack(error: Error): void {
    this.calledBack = error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  /** A tensor that was taken (and is transferred back) waits again. */
  putBack(slip: Slip, tensor: Tensor): void {
    if (!this.failure) this.arrived.set(placeOf(slip), { tensor, taken: () => {} });
  }

  /** Nothing has come in a phase, but for these micro-batches: it is gone through again, or somebody else goes through it. */
  forget(phase: Slip["phase"], but: ReadonlySet<number> = new Set()): void {
    const isOf = (key: string) => {
      const [own, , microBatch] = key.split("/");
      return own === phase && !but.has(Number(microBatch));
    };
    for (const [key, { taken }] of this.arrived) {
      if (!isOf(key)) continue;
      taken();
      this.arrived.delete(key);
    }
    for (const own of this.came.values()) for (const key of own) if (isOf(key)) own.delete(key);
  }

  /** Nothing is taken in steps before this one any more: what still comes for them has come before. */
  forgetBefore(step: number): void {
    this.first = Math.max(this.first, step);
    for (const own of this.came.keys()) if (own < step) this.came.delete(own);
  }

  /**
   * Keeps a tensor (transferred); resolves when it has been taken, or when nobody will take it any more.
   * @throws InboxError for a second tensor in one place.
   */
  put(slip: Slip, tensor: Tensor): Promise<void> {
    const key = placeOf(slip);
    if (this.failure) return Promise.resolve();
    if (this.remembers && slip.phase !== "evaluate") {
      const came = this.came.get(slip.step) ?? new Set();
      if (this.passesOver && (slip.step < this.first || came.has(key))) return Promise.resolve();
      this.came.set(slip.step, came.add(key));
    }
    const waiting = this.waiting.get(key);
    if (waiting) {
      this.waiting.delete(key);
      waiting.resolve(tensor);
      return Promise.resolve();
    }
    if (this.arrived.has(key)) throw new InboxError(`a second tensor arrived for ${key}`);
    return new Promise((taken) => this.arrived.set(key, { tensor, taken }));
  }

  /** The tensor of a place (transferred), as soon as it is there. @throws what `fail` was given. */
  take(slip: Slip): Promise<Tensor> {
    const key = placeOf(slip);
    const arrived = this.arrived.get(key);
    if (arrived) {
      this.arrived.delete(key);
      arrived.taken();
      return Promise.resolve(arrived.tensor);
    }
    const failure = this.failure ?? this.calledBack;
    if (failure) return Promise.reject(failure);
    return new Promise((resolve, reject) => this.waiting.set(key, { resolve, reject }));
  }

  /** What waits now, and what will wait, is rejected: nothing more will come. What is here is let go of. */
  fail(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
    for (const { taken } of this.arrived.values()) taken();
    this.arrived.clear();
  }
}
