/**
 * How a value lies on the ranks: whole on each of them, cut along one axis, or as parts that have to be added up. The
 * three states are those of GSPMD (Xu et al., 2021): replicated, sharded, partial.
 */

import type { Labels } from "./units.ts";

export type Layout = Whole | Part | Sum;

/** Equal on all ranks. */
export interface Whole {
  readonly kind: "whole";
}

/** Every rank has those indices along `axis` whose units are its own, in ascending order. */
export interface Part {
  readonly kind: "part";
  readonly axis: number;
  readonly labels: Labels;
}

/** The sum over the ranks is the value. */
export interface Sum {
  readonly kind: "sum";
}

export const WHOLE: Whole = { kind: "whole" };
export const SUM: Sum = { kind: "sum" };
export const part = (axis: number, labels: Labels): Part => ({ kind: "part", axis, labels });

/** Indices from the first up to, and without, the second. */
export type Range = readonly [number, number];

/** A cut as plain data: for each rank, in ascending order, the ranges of indices along `axis` that it has. */
export interface Cut {
  readonly axis: number;
  readonly ranges: readonly (readonly Range[])[];
}

/** How many indices there are in some ranges. */
export const rangesLength = (ranges: readonly Range[]): number =>
  ranges.reduce((sum, [from, to]) => sum + to - from, 0);

/** How many indices there are along the axis of a cut. */
export const cutLength = ({ ranges }: Cut): number => ranges.reduce((sum, own) => sum + rangesLength(own), 0);

/** The cut of a value into as many parts as there are ranks. @param rankOf the rank of each index along the axis. */
export function cutOf(axis: number, rankOf: readonly number[], ranks: number): Cut {
  const ranges = Array.from({ length: ranks }, (): [number, number][] => []);
  rankOf.forEach((rank, i) => {
    const own = ranges[rank]!;
    const last = own.at(-1);
    if (last && last[1] === i) last[1] = i + 1;
    else own.push([i, i + 1]);
  });
  return { axis, ranges };
}
