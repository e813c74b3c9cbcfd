/**
 * Copies of values as steps of a run have left them: what a run can go back to. Memory of copies that are forgotten is
 * used for later ones, since all steps leave values of the same sizes.
 */

import { byteLength, type DType, type Shape, Tensor } from "../../protocols/tensor.ts";
import type { Slice } from "./pieces.ts";

/** Memory of a value, until it is released. */
export interface Room {
  readonly tensor: Tensor;
  release(): void;
}

type Allocate<R extends Room> = (dtype: DType, shape: Shape) => R;

const onHeap: Allocate<Room> = (dtype, shape) => {
  const tensor = new Tensor(dtype, shape, new Uint8Array(byteLength(dtype, shape)));
  return { tensor, release: () => {} };
};

export class Copies<R extends Room = Room> {
  private readonly allocate: Allocate<R>;
  private readonly steps = new Map<number, Map<string, R>>();
  private readonly spare: Map<string, R>[] = [];

  /** @param allocate memory of a value, whatever is in it. */
  constructor(allocate = onHeap as Allocate<R>) {
    this.allocate = allocate;
  }

  /**
   * Adds values to the copy of a step: they are read until this returns. A value that is there already is replaced. Of whoever
   * holds nothing there is a copy all the same, with nothing in it.
   */
  put(step: number, values: Iterable<readonly [name: string, tensor: Tensor]>): void {
    this.begin(step);
    for (const [name, { dtype, shape, bytes }] of values) {
      this.write(step, [{ name, dtype, shape, at: 0, bytes }]);
    }
  }

  /** Adds parts of values to the copy of a step: they are read until this returns. */
  write(step: number, slices: readonly Slice[]): void {
    for (const { name, dtype, shape, at, bytes } of slices) {
      this.room(step, name, dtype, shape).tensor.bytes.set(bytes, at);
    }
  }

  /** Undefined where there is no copy of that step. */
  at(step: number): ReadonlyMap<string, Tensor> | undefined {
    const copy = this.steps.get(step);
    return copy && new Map([...copy].map(([name, { tensor }]) => [name, tensor]));
  }

  /** Where the copy of a step is; undefined where there is none. */
  memory(step: number): ReadonlyMap<string, R> | undefined {
    return this.steps.get(step);
  }

  /** Memory for a copy of the same values as that of another step, which is there; whatever is in it. */
  like(other: number, step: number): ReadonlyMap<string, R> {
    const { steps } = this;
    for (const [name, { tensor }] of steps.get(other)!) this.room(step, name, tensor.dtype, tensor.shape);
    return steps.get(step)!;
  }

  /** Steps that there are copies of. */
  ofSteps(): readonly number[] {
    return [...this.steps.keys()];
  }

  /** Gives up all copies of steps before this one, but for those that are still asked for. */
  forgetBefore(step: number, asked: readonly number[] = []): void {
    for (const [own, copy] of this.steps) {
      if (own >= step || asked.includes(own)) continue;
      this.steps.delete(own);
      this.spare.push(copy);
    }
    // One is on its way in while one is kept.
    releaseAll(this.spare.splice(0, this.spare.length - 1));
  }

  /** Gives up all copies of steps behind this one: those are made again. */
  forgetAfter(step: number): void {
    // Somebody may still be on the way with one: its memory is not used again.
    for (const [own, copy] of this.steps) {
      if (own <= step) continue;
      this.steps.delete(own);
      releaseAll([copy]);
    }
  }

  /** Gives up all of them, with their memory. */
  release(): void {
    releaseAll([...this.steps.values(), ...this.spare.splice(0)]);
    this.steps.clear();
  }

  private begin(step: number): Map<string, R> {
    const copy = this.steps.get(step) ?? new Map<string, R>();
    this.steps.set(step, copy);
    return copy;
  }

  private room(step: number, name: string, dtype: DType, shape: Shape): R {
    const copy = this.begin(step);
    let own = copy.get(name);
    if (!own) {
      own = this.spareOf(name, dtype, shape) ?? this.allocate(dtype, shape);
      copy.set(name, own);
    }
    return own;
  }

  private spareOf(name: string, dtype: DType, shape: Shape): R | undefined {
    for (const copy of this.spare) {
      const found = copy.get(name);
      if (found?.tensor.dtype !== dtype || found.tensor.shape.join() !== shape.join()) continue;
      copy.delete(name);
      return found;
    }
    return undefined;
  }
}

function releaseAll(copies: readonly ReadonlyMap<string, Room>[]): void {
  for (const copy of copies) for (const room of copy.values()) room.release();
}
