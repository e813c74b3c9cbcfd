/**
 * Values in pieces as large as is asked for each time: of a large value a piece is a part, small ones go together. Pure.
 */

import type { DType, Shape, Tensor } from "../../protocols/tensor.ts";

/** Bytes of one value, from `at` on. */
export interface Slice {
  readonly name: string;
  /** Of the whole value. */
  readonly dtype: DType;
  readonly shape: Shape;
  readonly at: number;
  /** Borrowed. */
  readonly bytes: Uint8Array;
}

export class Cutter {
  private readonly values: readonly (readonly [name: string, tensor: Tensor])[];
  /** The value that comes next, and how much of it is given out. */
  private index = 0;
  private at = 0;

  /** @param values borrowed until all of them are given out. */
  constructor(values: Iterable<readonly [name: string, tensor: Tensor]>) {
    this.values = [...values];
  }

  /** A piece of so many bytes at most, 1 or more; null when nothing is left. */
  next(most: number): readonly Slice[] | null {
    const piece: Slice[] = [];
    let room = most;
    while (room > 0 && this.index < this.values.length) {
      const [name, { dtype, shape, bytes: all }] = this.values[this.index]!;
      const bytes = all.subarray(this.at, this.at + room);
      piece.push({ name, dtype, shape, at: this.at, bytes });
      room -= bytes.byteLength;
      this.at += bytes.byteLength;
      if (this.at < all.byteLength) continue;
      this.index++;
      this.at = 0;
    }
    return piece.length > 0 ? piece : null;
  }
}
