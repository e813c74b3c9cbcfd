/**
 * What brings faults over a device: it is armed with them, is asked at every operation, and does what is due. What a fault
 * does is handed in, for a process can be killed and a node within a test's process cannot.
 */

import type { Clock, Timer } from "../../runtime/index.ts";
import type { Operation } from "../scheduler/program.ts";
import { comesAt, type Fault, isSame, type Phase } from "./fault.ts";

/** What faults do to whatever the device runs in. */
export interface FaultEffects {
  /** Ends it at once; nothing is done any more. */
  kill(): void;
  /** Holds it still, for so many milliseconds if they are given: returns, if ever, when it goes on. */
  stop(forMs?: number): void;
  /** Takes its connections away without closing them, for so many milliseconds if they are given. */
  cut(forMs?: number): void;
}

/** A device that is asked to break and does not let others do that. */
export class FaultsRefused extends Error {
  readonly code = "FAULTS_REFUSED";
  override readonly name = "FaultsRefused";
}

/** What an operation of a program is. */
export const PHASES_OF: Readonly<Record<Operation["op"], readonly Phase[]>> = {
  forward: ["forward"],
  backward: ["backward"],
  "forward-backward": ["forward", "backward"],
  "backward-input": ["backward"],
  "backward-weight": ["backward"],
  "send-activation": ["send"],
  "send-gradient": ["send"],
  "receive-activation": ["receive"],
  "receive-gradient": ["receive"],
  reduce: ["reduce"],
  update: [],
  // That it has come to the gate; the commit comes when all have.
  step: [],
};

export class Injector {
  private readonly effects: FaultEffects;
  private readonly slow: (factor: number) => void;
  private readonly clock: Clock;
  private armed: readonly Fault[] = [];
  /** Of those that were offered for a time: until when they can come. */
  private readonly untilMs = new Map<Fault, number>();
  /** What makes kernels slow now: how many times each, and what ends it, where it is over after a while. */
  private readonly slowing = new Set<{ readonly factor: number; readonly timer?: Timer }>();
  /** That of the strongest. */
  private factor = 1;

  /** @param slow makes kernels take so many times as long; infinitely many is for ever. */
  constructor(effects: FaultEffects, slow: (factor: number) => void, clock: Clock) {
    this.effects = effects;
    this.slow = slow;
    this.clock = clock;
  }

  /** Faults that are still to come. */
  get toCome(): readonly Fault[] {
    return this.armed;
  }

  /** These faults are to come, each once, and no others; what makes kernels slow is over. */
  arm(faults: readonly Fault[]): void {
    this.untilMs.clear();
    this.armed = faults;
    for (const { timer } of this.slowing) this.clock.clearTimer(timer);
    this.slowing.clear();
    this.factor = 1;
    this.slow(1);
  }

  /** This fault is to come as well, if it can in the time that it lasts: over who has nothing to do, it does not come later. */
  offer(fault: Fault): void {
    this.armed = [...this.armed, fault];
    if (fault.forMs !== undefined) this.untilMs.set(fault, this.clock.now() + fault.forMs);
  }

  /** A fault that was offered is not to come any more. @returns whether it has not come. */
  withdraw(fault: Fault): boolean {
    const own = this.armed.find((other) => isSame(other, fault));
    if (own) this.disarm([own]);
    return own !== undefined;
  }

  /** An operation of a program is about to be carried out; as `reached`. */
  carriesOut(operation: Operation, step: number): Promise<void> | undefined {
    if (this.armed.length === 0) return undefined;
    const microBatch = "microBatch" in operation ? operation.microBatch : undefined;
    return this.reached(PHASES_OF[operation.op], step, microBatch);
  }

  /** Does what is due before this: undefined when nothing is, a promise to wait for otherwise, which may never settle. */
  reached(phases: readonly Phase[], step: number, microBatch?: number): Promise<void> | undefined {
    if (this.armed.length === 0) return undefined;
    const moment = { step, phases, ...(microBatch === undefined ? {} : { microBatch }) };
    const due = this.armed.filter((fault) => comesAt(fault, moment) && !this.isLate(fault));
    if (due.length === 0) return undefined;
    this.disarm(due);
    const ends = due.map((fault) => this.perform(fault));
    return ends.includes(true) ? new Promise(() => {}) : Promise.resolve();
  }

  private isLate(fault: Fault): boolean {
    const untilMs = this.untilMs.get(fault);
    return untilMs !== undefined && this.clock.now() >= untilMs;
  }

  private disarm(faults: readonly Fault[]): void {
    for (const fault of faults) this.untilMs.delete(fault);
    this.armed = this.armed.filter((fault) => !faults.includes(fault));
  }

  /** Whether nothing comes behind it. */
  private perform({ action, factor = 1, forMs }: Fault): boolean {
    if (action === "slow") this.slowDown(factor, forMs);
    else if (action === "hang") this.slowDown(Number.POSITIVE_INFINITY, forMs);
    else this.effects[action](forMs);
    return action === "kill";
  }

  /** It lasts until the device is armed anew, where it has no time. */
  private slowDown(factor: number, forMs?: number): void {
    const end = () => {
      this.slowing.delete(own);
      this.slowAsStrongest();
    };
    const timer = forMs === undefined ? undefined : this.clock.setTimer(end, forMs);
    const own = { factor, timer };
    this.slowing.add(own);
    this.slowAsStrongest();
  }

  private slowAsStrongest(): void {
    const factor = Math.max(1, ...[...this.slowing].map((each) => each.factor));
    if (factor === this.factor) return;
    this.factor = factor;
    this.slow(factor);
  }
}
