/**
 * How long to wait before the next attempt: twice as long each time up to a bound, and a random part of that, so
 * that many nodes that lost the same one do not come back in the same moment (M. Brooker, "Exponential Backoff And
 * Jitter", 2015; half of it stays fixed, so that no attempt follows at once).
 */

import type { Random } from "./random.ts";

/** A process that is started again answers after about as long. */
const FIRST_MS = 250;
/** A device that was switched on is found within half a minute. */
const MOST_MS = 30_000;

/** Milliseconds. @param attempt how many have failed in a row before the one to wait for, from 0. */
export function backoffMs(attempt: number, random: Random): number {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 30));
  return most * (0.5 + 0.5 * random.next());
}
