/**
 * How copies make way for what a step waits for. One piece is under way at a time, small enough that an activation behind
 * it does not wait long; and a piece that takes longer than pieces of its size have taken is one that others shared the
 * line with, wherever on its way: then the line is left to them for a multiple of what it took too long. As in LEDBAT
 * (RFC 6817), which uses what others leave by watching delays alone; nobody has to know who sends what to whom.
 *
 * A line that is never idle would leave nothing: a small part of it is taken all the same. Pure.
 */

import { MOST_COST } from "./pace.ts";

const LEAST_BYTES = 1 << 12;
const MOST_BYTES = 1 << 20;
/** A piece takes a line for so long at most; where the way there and back takes longer, for as long as that. */
const PIECE_MS = 8;
/** So much longer than the shortest a piece takes where nobody else sends. */
const SHORT = { factor: 1.5, ms: 1 };
/** What is left to others, of what a piece took too long. */
const YIELD = 3;
/** Of pieces' shortest time, where others never leave anything. */
const MOST_REST = 1 / MOST_COST - 1;

/** Of one copy on one way. */
export class Courtesy {
  /** How large the next piece is. */
  bytes = LEAST_BYTES;
  /** The shortest time that pieces took, by their bytes; that of the smallest is little more than the way there and back. */
  private readonly shortest = new Map<number, number>();

  /** A piece is there, after so long. @returns milliseconds to wait before the next one. */
  took(bytes: number, ms: number): number {
    // What is left in the end is less, and takes its own time.
    if (bytes !== this.bytes) return 0;
    const shortest = Math.min(ms, this.shortest.get(bytes) ?? Number.POSITIVE_INFINITY);
    this.shortest.set(bytes, shortest);
    const tripMs = this.shortest.get(LEAST_BYTES)!;
    const twiceMs = 2 * ms - tripMs;
    if (bytes < MOST_BYTES && twiceMs <= Math.max(PIECE_MS, 2 * tripMs)) this.bytes = 2 * bytes;
    if (ms <= SHORT.factor * shortest + SHORT.ms) return 0;
    return Math.min(YIELD * (ms - shortest), MOST_REST * shortest);
  }
}
