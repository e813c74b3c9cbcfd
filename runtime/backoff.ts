/**
 * How long to wait before the next attempt: twice as long each time up to a bound, and a random part of that, so
 * that many nodes that lost the same one do not come back in the same moment (M. Brooker, "Exponential Backoff And
 * Jitter", 2015; half of it stays fixed, so that no attempt follows at once).
 */

import type { Random } from "./random.ts";
import type { Times } from "./times.ts";

/** Milliseconds. @param attempt how many have failed in a row before the one to wait for, from 0. */
export function backoffMs(
  attempt: number,
  random: Random,
  { firstRetryMs, lastRetryMs }: Pick<Times, "firstRetryMs" | "lastRetryMs">,
): number {
  const most = Math.min(lastRetryMs, firstRetryMs * 2 ** Math.min(attempt, 30));
  return most * (0.5 + 0.5 * random.next());
}
