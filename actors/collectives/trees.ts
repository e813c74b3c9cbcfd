/**
 * Sums in two trees (`tree-shape.ts`), for many ranks: up to a root and down again are twice the logarithm of their number
 * of hops, where a ring has twice their number. Each tree adds up half of a vector, in pieces that follow each other, so
 * that all links are busy. A rank sends as many bytes as there are twice at most, and 2(n-1)/n times on average, as each
 * does round a ring.
 *
 * A sum is formed in the order of the places of its tree: what comes from before, a rank's own, what comes from behind. So
 * its bits are those of the root, and the same every time.
 */

import { addInto } from "../../nn/shards/sum.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Lines } from "./lines.ts";
import { type Piece, piecesOf, treePiece } from "./pieces.ts";
import { type TreePlace, treesOf } from "./tree-shape.ts";

/** Adds a vector up, in place. @throws TensorError for another size than other ranks', what `lines` were abandoned with. */
export async function addUpInTrees(lines: Lines, key: string, values: Float32Array): Promise<void> {
  const { length } = values;
  const ends = [0, length >> 1, length];
  await lines.all(
    treesOf(lines.rank, lines.ranks).flatMap((place, tree) => {
      const half = new Half(lines, place, `${key}/${tree}`, values, ends[tree]!, ends[tree + 1]!);
      return [() => half.up(), () => half.down()];
    }),
  );
}

/** What one tree adds up. */
class Half {
  private readonly lines: Lines;
  private readonly place: TreePlace;
  private readonly key: string;
  private readonly values: Float32Array;
  private readonly pieces: readonly Piece[];
  /** By piece. */
  private readonly lent: Promise<unknown>[] = [];

  constructor(lines: Lines, place: TreePlace, key: string, values: Float32Array, from: number, to: number) {
    this.lines = lines;
    this.place = place;
    this.key = key;
    this.values = values;
    this.pieces = piecesOf("", from, to, treePiece(to - from));
  }

  /** Sums of whom there is below go to the parent; at the root they are all, and go down. */
  async up(): Promise<void> {
    const { lines, values } = this;
    const { parent, children } = this.place;
    const [first, ...others] = children;
    for (const { from, to, name } of this.pieces) {
      const own = values.subarray(from, to);
      if (first === undefined) {
        this.lent.push(lines.lend(parent!, this.upward(name), Tensor.f32([to - from], own)));
        continue;
      }
      const sum = await lines.takeFloats(first, this.upward(name), to - from);
      addInto(sum, own);
      for (const other of others) {
        addInto(sum, await lines.takeFloats(other, this.upward(name), to - from));
      }
      const tensor = Tensor.f32([to - from], sum);
      if (parent !== null) lines.give(parent, this.upward(name), tensor);
      else {
        own.set(sum);
        this.handDown(name, tensor);
      }
    }
  }

  /** The sums of all come from the parent. */
  async down(): Promise<void> {
    const { lines, values } = this;
    const { parent } = this.place;
    if (parent === null) return;
    for (const [i, { from, to, name }] of this.pieces.entries()) {
      const key = this.downward(name, lines.rank);
      const tensor = await lines.take(parent, key);
      const sum = lines.floats(key, tensor, to - from);
      // What is written over has been added to, so that it has long been sent.
      if (this.lent[i]) await lines.unlessAbandoned(this.lent[i]);
      values.set(sum, from);
      this.handDown(name, tensor);
    }
  }

  private handDown(name: string, tensor: Tensor): void {
    for (const child of this.place.children) this.lines.give(child, this.downward(name, child), tensor);
  }

  private upward(name: string): string {
    return `${this.key}/up${name}`;
  }

  /** What is given to two has two keys: under one, there is one tensor. */
  private downward(name: string, to: number): string {
    return `${this.key}/down/${to}${name}`;
  }
}
