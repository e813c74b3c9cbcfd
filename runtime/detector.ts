/**
 * Is the other end of a link alive? Anything received says so; a peer that is quiet is pinged each interval; when its
 * silence has lasted for the patience it is given up, unless it has been so irregular until then that this silence may be
 * one more of its own. That is the φ-accrual detector (Hayashibara, Défago, Yared, Katayama: "The φ Accrual Failure
 * Detector", SRDS 2004): of the last gaps between signs of life it keeps mean and deviation, and φ = −log₁₀ of the
 * probability that a living peer would be silent for as long as this one has been. A peer on a cable is given up when the
 * patience is over, one on a bad radio or a machine that swaps up to a quarter later, and nobody earlier: that is what users
 * are promised (times.ts).
 *
 * A node whose own event loop stood still must not blame its peers for its own silence: a check that comes late
 * gives them the time it was late, and a gap in which this node could not have heard anything teaches nothing. But it
 * gives them no more than another patience in one silence: a node that stands still again and again would never give
 * anybody up.
 *
 * Pure: whoever owns the link says what time it is, and checks when `dueMs` is over.
 */

import { DEFAULT_PATIENCE_MS, timesOf } from "./times.ts";

/** How a link is watched. */
export interface Heartbeat {
  /** Milliseconds between checks. */
  readonly intervalMs: number;
  /** Milliseconds of silence after which the peer is given up; a quarter more if it has been irregular. */
  readonly patienceMs: number;
}

/** The heartbeat of a patience in milliseconds. */
export function heartbeatOf(patienceMs: number): Heartbeat {
  return { intervalMs: timesOf(patienceMs).intervalMs, patienceMs };
}

/** The heartbeat of a node that was told of no other patience. */
export const DEFAULT_HEARTBEAT: Heartbeat = heartbeatOf(DEFAULT_PATIENCE_MS);

/** One mistake in 10⁸ gaps, if they were normally distributed; what Akka and Cassandra use. */
const THRESHOLD = 8;
/** Gaps that are remembered: some minutes of them, so that a changed network is learnt within minutes. */
const WINDOW = 200;
/** Before so many gaps were seen a deviation is a guess, and the patience alone decides. */
const FEWEST = 8;
/**
 * The part of the patience that is added to the mean: a pause that a process makes now and then is in no gap yet. Akka adds
 * 3 s to gaps of 1 s; devices at the edge are slower, so half of 10 s. A regular peer is given up when the patience is over.
 */
const PAUSE_SHARE = 1 / 2;
/**
 * The least deviation, as a part of the interval: on an idle local network the measured one is near zero, and a
 * delay of milliseconds would be a sign of death. Akka's 100 ms for gaps of 1 s.
 */
const LEAST_DEVIATION_SHARE = 1 / 10;
/**
 * A sign of life younger than this part of the interval is as good as an answer to a ping; and a check that is late by no
 * more is a timer's delay, and no standstill.
 */
const FRESH_SHARE = 1 / 2;

export class Detector {
  private readonly heartbeat: Heartbeat;
  /** The last gaps, milliseconds, in a ring. */
  private readonly gaps = new Float64Array(WINDOW);
  private seen = 0;
  private heardAt: number;
  private sampledAt: number;
  private checkedAt: number;
  /** Of this silence, the time in which this node stood still. */
  private stoodMs = 0;
  private due: number;

  constructor(heartbeat: Heartbeat, now: number) {
    this.heartbeat = heartbeat;
    this.due = heartbeat.intervalMs;
    this.heardAt = now;
    this.sampledAt = now;
    this.checkedAt = now;
  }

  /** Something was received. Cheap: what comes within half an interval of the last gap's end is one sign of life. */
  heard(now: number): void {
    this.heardAt = now;
    this.stoodMs = 0;
    const { intervalMs } = this.heartbeat;
    const gap = now - this.sampledAt;
    if (gap < intervalMs * FRESH_SHARE) return;
    this.sampledAt = now;
    const stoodStill = now - this.checkedAt > intervalMs * (1 + FRESH_SHARE);
    if (!stoodStill) this.gaps[this.seen++ % WINDOW] = gap;
  }

  /** Milliseconds from one check to the next: an interval, or less where a silence would be over before. */
  get dueMs(): number {
    return this.due;
  }

  /** Called when `dueMs` is over. `ask`: send a ping. `silent`: give the peer up. */
  check(now: number): "fine" | "ask" | "silent" {
    const { intervalMs, patienceMs } = this.heartbeat;
    const late = now - this.checkedAt - this.due;
    this.checkedAt = now;
    if (late > intervalMs * FRESH_SHARE && this.stoodMs < patienceMs) {
      this.stoodMs += late;
      this.heardAt = Math.min(now, this.heardAt + late);
      this.sampledAt = Math.min(now, this.sampledAt + late);
    }
    const silence = this.silence(now);
    const { latestMs } = timesOf(patienceMs);
    const left = (silence < patienceMs ? patienceMs : latestMs) - silence;
    this.due = left > 0 ? Math.min(intervalMs, left) : intervalMs;
    if (silence >= latestMs) return "silent";
    const isPause = this.isKnown && this.phi(now) < THRESHOLD;
    if (silence >= patienceMs && !isPause) return "silent";
    return silence >= intervalMs * FRESH_SHARE ? "ask" : "fine";
  }

  /** Milliseconds since the last sign of life, without the time in which this node itself stood still. */
  silence(now: number): number {
    return now - this.heardAt;
  }

  private get isKnown(): boolean {
    return this.seen >= FEWEST;
  }

  /** The suspicion: 1 is a mistake in ten, 2 in a hundred, … 0 as long as too little is known of the peer. */
  phi(now: number): number {
    if (!this.isKnown) return 0;
    const count = Math.min(this.seen, WINDOW);
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
