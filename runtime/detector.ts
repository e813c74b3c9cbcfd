/**
 * Is the other end of a link alive? Anything received says so; a peer that is quiet is pinged each interval; how
 * long a silence has to be before the peer is given up is learnt from the peer itself. That is the φ-accrual
 * detector (Hayashibara, Défago, Yared, Katayama: "The φ Accrual Failure Detector", SRDS 2004): of the last gaps
 * between signs of life it keeps mean and deviation, and φ = −log₁₀ of the probability that a living peer would
 * be silent for as long as this one has been. A peer on a cable is given up early, one on a bad radio later, and
 * none later than the patience, which is what users are promised.
 *
 * A node whose own event loop stood still must not blame its peers for its own silence: a check that comes late
 * gives them the time it was late, and a gap in which this node could not have heard anything teaches nothing.
 *
 * Pure: whoever owns the link says what time it is.
 */

export interface Heartbeat {
  /** Milliseconds between checks. */
  readonly intervalMs: number;
  /** Milliseconds of silence after which the peer is given up, however irregular it has been. */
  readonly patienceMs: number;
}

/** Checks in a patience: a silence is measured to a tenth of it. */
const CHECKS = 10;

/** What follows from a patience, milliseconds: all else that detection takes is derived from it. */
export function heartbeatOf(patienceMs: number): Heartbeat {
  return { intervalMs: patienceMs / CHECKS, patienceMs };
}

/** A dead process closes its sockets at once; this is for machines that freeze or lose their network. */
export const DEFAULT_HEARTBEAT: Heartbeat = heartbeatOf(10_000);

/** One mistake in 10⁸ gaps, if they were normally distributed; what Akka and Cassandra use. */
const THRESHOLD = 8;
/** Gaps that are remembered: some minutes of them, so that a changed network is learnt within minutes. */
const WINDOW = 200;
/** Before so many gaps were seen a deviation is a guess, and the patience alone decides. */
const FEWEST = 8;
/**
 * The part of the patience that is added to the mean: a process that compiles, swaps or collects garbage is
 * silent for seconds and lives. Akka adds 3 s to gaps of 1 s; devices at the edge are slower, so half of 10 s.
 */
const PAUSE_SHARE = 1 / 2;
/**
 * The least deviation, as a part of the interval: on an idle local network the measured one is near zero, and a
 * delay of milliseconds would be a sign of death. Akka's 100 ms for gaps of 1 s.
 */
const LEAST_DEVIATION_SHARE = 1 / 10;
/** A sign of life younger than this part of the interval is as good as an answer to a ping. */
const FRESH_SHARE = 1 / 2;

export class Detector {
  private readonly heartbeat: Heartbeat;
  /** The last gaps, milliseconds, in a ring. */
  private readonly gaps = new Float64Array(WINDOW);
  private seen = 0;
  private heardAt: number;
  private sampledAt: number;
  private checkedAt: number;

  constructor(heartbeat: Heartbeat, now: number) {
    this.heartbeat = heartbeat;
    this.heardAt = now;
    this.sampledAt = now;
    this.checkedAt = now;
  }

  /** Something was received. Cheap: what comes within half an interval of the last gap's end is one sign of life. */
  heard(now: number): void {
    this.heardAt = now;
    const { intervalMs } = this.heartbeat;
    const gap = now - this.sampledAt;
    if (gap < intervalMs * FRESH_SHARE) return;
    this.sampledAt = now;
    const stoodStill = now - this.checkedAt > intervalMs * (1 + FRESH_SHARE);
    if (!stoodStill) this.gaps[this.seen++ % WINDOW] = gap;
  }

  /** Called once per interval. `ask`: send a ping. `silent`: give the peer up. */
  check(now: number): "fine" | "ask" | "silent" {
    const { intervalMs, patienceMs } = this.heartbeat;
    const late = now - this.checkedAt - intervalMs;
    this.checkedAt = now;
    if (late > 0) {
      this.heardAt = Math.min(now, this.heardAt + late);
      this.sampledAt = Math.min(now, this.sampledAt + late);
    }
    const silence = this.silence(now);
    if (silence >= patienceMs || this.phi(now) >= THRESHOLD) return "silent";
    return silence >= intervalMs * FRESH_SHARE ? "ask" : "fine";
  }

  /** Milliseconds since the last sign of life, without the time in which this node itself stood still. */
  silence(now: number): number {
    return now - this.heardAt;
  }

  /** The suspicion: 1 is a mistake in ten, 2 in a hundred, … 0 as long as too little is known of the peer. */
  phi(now: number): number {
    const count = Math.min(this.seen, WINDOW);
    if (count < FEWEST) return 0;
    const { intervalMs, patienceMs } = this.heartbeat;
    let sum = 0;
    for (let i = 0; i < count; i++) sum += this.gaps[i]!;
    const mean = sum / count;
    let squares = 0;
    for (let i = 0; i < count; i++) squares += (this.gaps[i]! - mean) ** 2;
    const deviation = Math.max(Math.sqrt(squares / count), intervalMs * LEAST_DEVIATION_SHARE);
    const expected = Math.max(mean, intervalMs) + patienceMs * PAUSE_SHARE;
    return suspicion((this.silence(now) - expected) / deviation);
  }
}

/**
 * −log₁₀ of the probability that a normal variable exceeds its mean by `y` deviations, by the logistic
 * approximation of the normal distribution (Bowling et al. 2009), exact to 1.4·10⁻⁴ in the probability.
 */
function suspicion(y: number): number {
  const exponent = y * (1.5976 + 0.070566 * y * y);
  // log(1 + e^x), which is x for a large x, where e^x would overflow.
  return (exponent > 40 ? exponent : Math.log1p(Math.exp(exponent))) / Math.LN10;
}
