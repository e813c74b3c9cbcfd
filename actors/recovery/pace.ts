/**
 * How often a run keeps what a step leaves: every k steps. Pure. Copies go over the lines that activations and gradients go
 * over, in the time in which those carry nothing; where that is not enough for all of them in one step, they take the idle
 * time of several. k is 1 wherever there is as much: what is lost with a device is then a step at most.
 */

/** Copies and everything else on one line. */
export interface CopyFlow {
  /** Milliseconds that a step's copies take there. */
  readonly copyMs: number;
  /** Milliseconds of a step in which it carries something else. */
  readonly busyMs: number;
}

/** Of a step's time, what copies may cost. */
export const MOST_COST = 0.05;

/** Of the time in which a line is idle, what copies come to use: they make way for all else (`courtesy.ts`). */
const USED = 0.5;

/**
 * Steps from one that is kept to the next: as many as copies take of the idle time of steps on the line that has least.
 * What they cost is measured in the run, which goes by that (`cadence.ts`).
 */
export function keepEvery(flows: Iterable<CopyFlow>, stepMs: number): number {
  let every = 1;
  for (const { copyMs, busyMs } of flows) {
    const spareMs = Math.max(USED * (stepMs - busyMs), MOST_COST * stepMs);
    if (copyMs > 0 && spareMs > 0) every = Math.max(every, Math.ceil(copyMs / spareMs - 1e-9));
  }
  return every;
}
