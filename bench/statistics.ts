/**
 * What is said of repeated measurements. Machines that others use too disturb single runs in one direction only, so
 * everything here is by medians: of values, of ratios of runs made one right after the other, of slopes.
 */

/** The middle value, the mean of the middle two of an even number. @throws RangeError for no values. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear interpolation between order statistics; `share` 0 … 1. @throws RangeError for no values. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("there are no values to take a quantile of");
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at % 1);
}

/** How many times as fast as a rival, from times in the order of the rounds in which both were measured. */
export interface SpeedRatio {
  /** Median of the rival's times over the median of ours. */
  readonly ofMedians: number;
  /** Median over rounds of (the rival's time over ours in the same round): drifts of the machine fall out. */
  readonly paired: number;
}

/** @throws RangeError unless both have one time of every round. */
export function speedRatio(ours: readonly number[], rivals: readonly number[]): SpeedRatio {
  if (ours.length !== rivals.length) {
    throw new RangeError(`${ours.length} rounds of ours cannot be paired with ${rivals.length} of the rival`);
  }
  return {
    ofMedians: median(rivals) / median(ours),
    paired: median(rivals.map((rival, round) => rival / ours[round]!)),
  };
}

/** Median of the slopes between all pairs of points (Theil, 1950; Sen, 1968): a few outliers do not move it. */
export function theilSenSlope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const slopes = points.flatMap((a, i) =>
    points.slice(i + 1).flatMap((b) => (a.x === b.x ? [] : [(b.y - a.y) / (b.x - a.x)])),
  );
  return median(slopes);
}
