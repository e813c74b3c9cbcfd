/** Vectors as collectives send them: in chunks, one for each rank, and chunks in pieces that follow each other. */

import { Tensor } from "../../protocols/tensor.ts";

/**
 * Elements of a piece, 256 KiB: while a rank adds one, the next is on the link. Long vectors are cut into larger ones, up
 * to 1 MiB, which take half as much of a processor. So few that a link has no next one would have the ring wait.
 */
export const PIECE = 2 ** 16;
/** A vector of no more elements goes faster in fewer steps than in less memory. */
export const SHORT = 8 * PIECE;
const LARGEST_PIECE = 2 ** 18;
const ENOUGH_PIECES = 8;
/**
 * In a tree every hop waits for a whole piece, so there are more of them, down to 64 KiB: that keeps a link of 1 Gbit/s busy
 * for half a millisecond, beside which the 40 µs that a message takes of its own are little.
 */
const SMALLEST_IN_TREE = 2 ** 14;
const ENOUGH_IN_TREE = 64;

/** Elements [from, to) of a vector, and their name among all of it. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly name: string;
}

/** The pieces of the elements [from, to), none of them of more than `size`; none where there are none. */
export function piecesOf(name: string, from: number, to: number, size = ringPiece(to - from)): Piece[] {
  const count = Math.ceil((to - from) / size);
  return Array.from({ length: count }, (_, i) => {
    const at = (i: number) => from + Math.floor(((to - from) * i) / count);
    return { from: at(i), to: at(i + 1), name: `${name}.${i}` };
  });
}

function ringPiece(length: number): number {
  return Math.min(LARGEST_PIECE, Math.max(PIECE, Math.ceil(length / ENOUGH_PIECES)));
}

/** Elements of the largest piece of so many that go through a tree. */
export function treePiece(length: number): number {
  return Math.min(PIECE, Math.max(SMALLEST_IN_TREE, Math.ceil(length / ENOUGH_IN_TREE)));
}

/** The pieces of each rank's chunk of a vector, which are as equal as can be. */
export function chunksOf(length: number, ranks: number): Piece[][] {
  const at = (rank: number) => Math.floor((length * rank) / ranks);
  return Array.from({ length: ranks }, (_, rank) => piecesOf(String(rank), at(rank), at(rank + 1)));
}

/** Some elements as a tensor in memory of its own. */
export const copyOf = (values: Float32Array, { from, to }: Pick<Piece, "from" | "to">): Tensor =>
  Tensor.f32([to - from], values.slice(from, to));
