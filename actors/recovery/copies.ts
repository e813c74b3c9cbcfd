/**
 * Copies of values as steps of a run have left them: what a run can go back to. Memory of copies that are forgotten is
 * used for later ones, since all steps leave values of the same sizes.
 */

import { byteLength, Tensor } from "../../protocols/tensor.ts";
import type { Slice } from "./pieces.ts";

export class Copies {
  private readonly steps = new Map<number, Map<string, Tensor>>();
  private readonly spare: Map<string, Tensor>[] = [];

  /** Adds values to the copy of a step: they are read until this returns. A value that is there already is replaced. */
  put(step: number, values: Iterable<readonly [name: string, tensor: Tensor]>): void {
    for (const [name, { dtype, shape, bytes }] of values) {
      this.write(step, [{ name, dtype, shape, at: 0, bytes }]);
    }
  }

  /** Adds parts of values to the copy of a step: they are read until this returns. */
  write(step: number, slices: readonly Slice[]): void {
    let copy = this.steps.get(step);
    if (!copy) {
      copy = new Map();
      this.steps.set(step, copy);
    }
    for (const { name, dtype, shape, at, bytes } of slices) {
      let own = copy.get(name);
      if (!own) {
        own = new Tensor(dtype, shape, this.roomOf(name, byteLength(dtype, shape)));
        copy.set(name, own);
      }
      own.bytes.set(bytes, at);
    }
  }

  /** Undefined where there is no copy of that step. */
  at(step: number): ReadonlyMap<string, Tensor> | undefined {
    return this.steps.get(step);
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
    this.spare.splice(0, this.spare.length - 1);
  }

  /** Gives up all copies of steps behind this one: those are made again. */
  forgetAfter(step: number): void {
    // Somebody may still be on the way with one: its memory is not used again.
    for (const own of [...this.steps.keys()]) if (own > step) this.steps.delete(own);
  }

  private roomOf(name: string, bytes: number): Uint8Array<ArrayBuffer> {
    for (const copy of this.spare) {
      const found = copy.get(name);
      if (found?.bytes.byteLength !== bytes) continue;
      copy.delete(name);
      return found.bytes as Uint8Array<ArrayBuffer>;
    }
    return new Uint8Array(bytes);
  }
}
