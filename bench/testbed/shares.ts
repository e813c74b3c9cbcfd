/** How much of the one processor each device may have, from how fast they are to be beside each other. */

import { LEAST_SHARE } from "./cgroup.ts";
import { TestbedError } from "./error.ts";

/** Of one processor, for all devices together: the rest is for whatever else runs on it. */
export const SUM_OF_SHARES = 0.9;
/** How far measured speeds may be from those asked for, as parts of them. */
export const TOLERANCE = 0.02;

/** Shares proportional to some weights, which add up to `SUM_OF_SHARES`. @throws TestbedError for one that is too small. */
export function sharesOf(weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const shares = weights.map((weight) => (SUM_OF_SHARES * weight) / sum);
  const least = Math.min(...shares);
  if (least >= LEAST_SHARE) return shares;
  throw new TestbedError(
    `the slowest device would get ${(least * 100).toFixed(1)} % of a processor, and ${LEAST_SHARE * 100} % is the ` +
      "least: use fewer devices, or devices of less different speeds",
  );
}

/** Speeds as parts of their sum. */
export function relative(speeds: readonly number[]): number[] {
  const sum = speeds.reduce((a, b) => a + b, 0);
  return speeds.map((speed) => speed / sum);
}

/** The largest deviation of measured speeds from those asked for, as a part of the latter. */
export function deviation(asked: readonly number[], measured: readonly number[]): number {
  const wanted = relative(asked);
  return Math.max(...relative(measured).map((speed, i) => Math.abs(speed / wanted[i]! - 1)));
}

/** What each share did, as a part of what it would have done if all had done as much as their shares. */
export function effectOf(shares: readonly number[], measured: readonly number[]): number[] {
  const due = relative(shares);
  return relative(measured).map((speed, i) => speed / due[i]!);
}
