/**
 * How often something may be started again before whoever starts it gives up: `intensity` times within any
 * `periodMs`. A sliding window on a clock that is handed in.
 */

/** A budget of restarts. */
export interface Intensity {
  /** Restarts that are allowed within the period. */
  readonly intensity: number;
  /** Milliseconds. */
  readonly periodMs: number;
}

export class RestartWindow implements Intensity {
  readonly intensity: number;
  readonly periodMs: number;
  /** Times of the latest restarts; more than `intensity + 1` of them are never looked at. */
  private times: number[] = [];

  constructor({ intensity, periodMs }: Intensity) {
    this.intensity = intensity;
    this.periodMs = periodMs;
  }

  /** Counts a restart now. @returns how many there were within the period, this one included. */
  count(now: number): number {
    this.times.push(now);
    this.times = this.times.filter((at) => at > now - this.periodMs).slice(-this.intensity - 1);
    return this.times.length;
  }
}
