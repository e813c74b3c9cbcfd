/**
 * A run of many steps on devices that come and go, simulated: which steps are done when, what is thrown away, and how long
 * nothing goes on.
 *
 * The rules are the commit gate's. A device of the running plan that leaves before the gate of a step costs that step; one
 * that leaves behind it does not. After either, whoever is left notices some time later, the policy is asked for another
 * plan, and that takes its time to start. Devices that join, and leaving ones that had nothing to do, are told to the policy
 * between two steps, and it may let things be. All steps of a plan are alike, so one is simulated.
 *
 * What it leaves out: that devices and links are at times slower, that what was lost may be healed from a copy faster than
 * from a checkpoint, and that a new plan may be made ready while the old one runs. Those are the policy's to put into
 * `startMs`, as well as it knows.
 */

import type { ChurnEvent } from "../cluster.ts";
import type { StageProgram } from "../program.ts";
import type { RunCost } from "../run-cost.ts";
import { type Prediction, predict } from "../simulate.ts";

/** A plan that runs. */
export interface Running {
  readonly programs: readonly StageProgram[];
  readonly cost: RunCost;
  /** Ids, by worker. */
  readonly devices: readonly string[];
  /** From the decision for it until its first step begins. */
  readonly startMs: number;
}

/**
 * What to run on these devices. `running` is what runs now, all its devices still there, and may be the answer; null when
 * nothing runs. Null when these devices cannot do it: others are waited for.
 */
export type Policy = (devices: readonly string[], running: Running | null) => Running | null;

export interface ChurnRequest {
  readonly steps: number;
  /** Ids of those that are there in the beginning. */
  readonly devices: readonly string[];
  /** By time, as `churnEvents` makes them of a cluster file. */
  readonly events: readonly ChurnEvent[];
  readonly policy: Policy;
  /** From a device's leaving until the others know. */
  readonly detectMs: number;
}

/** A time in which one plan ran. */
export interface Stay {
  readonly fromMs: number;
  readonly toMs: number;
  /** Done in it. */
  readonly steps: number;
  readonly devices: readonly string[];
}

export interface ChurnRun {
  /** Fewer than were asked for when in the end no devices could do it. */
  readonly steps: number;
  readonly totalMs: number;
  /** Work on steps that were not committed. */
  readonly lostMs: number;
  /** Time in which no step was under way: noticing, starting, waiting for devices. */
  readonly stoppedMs: number;
  readonly stays: readonly Stay[];
}

/** @throws ProgramError for programs that do not fit together, RangeError for a plan on devices that are not there. */
export function simulateChurn(request: ChurnRequest): ChurnRun {
  const run = new Run(request);
  while (run.goesOn()) {
    run.takeEvents();
    if (run.hasPlan()) run.work();
  }
  return run.result();
}

class Run {
  private readonly request: ChurnRequest;
  private readonly present: Set<string>;
  private nowMs = 0;
  /** The next event. */
  private next = 0;
  private done = 0;
  private lostMs = 0;
  private running: Running | null = null;
  /** Devices of what runs, or ran last: their leaving has to be noticed. */
  private crew: ReadonlySet<string> = new Set();
  private step: Prediction | null = null;
  /** Whether the policy has something to think about. */
  private changed = true;
  private stranded = false;
  private readonly stays: {
    fromMs: number;
    toMs: number;
    steps: number;
    readonly devices: readonly string[];
  }[] = [];

  constructor(request: ChurnRequest) {
    this.request = request;
    this.present = new Set(request.devices);
  }

  goesOn(): boolean {
    return this.done < this.request.steps && !this.stranded;
  }

  /** All that has happened until now. */
  takeEvents(): void {
    const { events, detectMs } = this.request;
    for (let event = events[this.next]; event && event.atMs <= this.nowMs; event = events[++this.next]) {
      if (event.what === "join" ? this.present.has(event.device) : !this.present.delete(event.device))
        continue;
      if (event.what === "join") this.present.add(event.device);
      this.changed = true;
      if (event.what === "leave" && this.crew.has(event.device)) {
        this.running = null;
        this.nowMs = Math.max(this.nowMs, event.atMs + detectMs);
      }
    }
  }

  /** Sees to it that something runs; whether it does, now. */
  hasPlan(): boolean {
    if (this.running && !this.changed) return true;
    const { events, policy } = this.request;
    const chosen = policy([...this.present], this.running);
    this.changed = false;
    if (chosen && chosen === this.running) return true;
    if (!chosen) {
      const event = events[this.next];
      this.running = null;
      this.stranded = event === undefined;
      this.nowMs = event?.atMs ?? this.nowMs;
      return false;
    }
    const missing = chosen.devices.find((device) => !this.present.has(device));
    if (missing !== undefined) throw new RangeError(`the policy's plan uses ${missing}, which is not there`);
    this.running = chosen;
    this.crew = new Set(chosen.devices);
    this.step = predict(chosen.programs, chosen.cost);
    // Starting ends early where one of its devices leaves.
    const startedMs = this.nowMs + chosen.startMs;
    this.nowMs = this.leaving(startedMs)?.atMs ?? startedMs;
    this.stays.push({ fromMs: this.nowMs, toMs: this.nowMs, steps: 0, devices: chosen.devices });
    // What has happened meanwhile comes first.
    return (events[this.next]?.atMs ?? Number.POSITIVE_INFINITY) > this.nowMs;
  }

  /** Steps until something happens, or the one in which it does. */
  work(): void {
    const { events, steps } = this.request;
    const { makespanMs, gateMs } = this.step!;
    const atMs = events[this.next]?.atMs ?? Number.POSITIVE_INFINITY;
    const whole = makespanMs === 0 ? steps : Math.floor((atMs - this.nowMs) / makespanMs);
    const left = whole > 0 ? undefined : this.leaving(this.nowMs + makespanMs);
    if (left && left.atMs < this.nowMs + gateMs) {
      this.lostMs += left.atMs - this.nowMs;
      this.stays.at(-1)!.toMs = left.atMs;
      this.nowMs = left.atMs;
    } else this.commit(Math.min(Math.max(1, whole), steps - this.done), makespanMs);
  }

  /** The first device of the plan that leaves before then. */
  private leaving(untilMs: number): ChurnEvent | undefined {
    const { events } = this.request;
    for (let at = this.next; at < events.length && events[at]!.atMs < untilMs; at++) {
      const event = events[at]!;
      if (event.what === "leave" && this.crew.has(event.device)) return event;
    }
    return undefined;
  }

  private commit(steps: number, stepMs: number): void {
    const stay = this.stays.at(-1)!;
    this.done += steps;
    this.nowMs += steps * stepMs;
    stay.steps += steps;
    stay.toMs = this.nowMs;
  }

  result(): ChurnRun {
    const { done, nowMs, lostMs } = this;
    const stays = this.stays.filter(({ fromMs, toMs }) => toMs > fromMs);
    const worked = stays.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
    return { steps: done, totalMs: nowMs, lostMs, stoppedMs: nowMs - worked, stays };
  }
}
