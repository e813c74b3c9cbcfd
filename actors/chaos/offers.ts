/**
 * Faults that go by the time: each is offered to its device for as long as it lasts, and taken back then. What the device says
 * to that is whether it has come. Of one that was lost meanwhile nobody can say it: one of those that were open explains the
 * loss, and the others are taken not to have come.
 */

import type { Clock, Ref, Timer } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { Fault } from "./fault.ts";

/** A fault that was asked for and has not come, and why not, for people. */
export interface MissedFault {
  readonly fault: Fault;
  readonly why: string;
}

interface Offer {
  readonly device: Ref<Device>;
  readonly untilMs: number;
  readonly timer: Timer;
}

export class Offers {
  private readonly clock: Clock;
  /** Those of which it is not known whether they have come, in their order. */
  private readonly open = new Map<Fault, Offer>();
  private readonly missed: MissedFault[] = [];

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** This fault is to come over this device, within the time that it lasts. */
  offer(fault: Fault & { readonly forMs: number }, device: Ref<Device>): void {
    const { clock } = this;
    const timer = clock.setTimer(() => void this.takeBack(fault, "its time was over"), fault.forMs);
    this.open.set(fault, { device, untilMs: clock.now() + fault.forMs, timer });
    device.ask.arm([fault], true).catch(() => {});
  }

  /** A device is gone. @returns whether one of these explains it. */
  lost(name: string): boolean {
    const own = [...this.open].filter(([fault]) => fault.device === name);
    const ending = own.filter(([{ action }]) => action !== "slow");
    // A process that is killed is missed at once; a silence is heard of when its time may be over.
    const isKill = ([{ action }, { untilMs }]: (typeof own)[number]) =>
      action === "kill" && this.clock.now() < untilMs;
    const cause = (ending.find(isKill) ?? ending[0])?.[0];
    for (const [fault] of own) {
      if (fault === cause) this.close(fault);
      else this.miss(fault, `${name} was gone before it did anything of the kind`);
    }
    return cause !== undefined;
  }

  /** The run is over: takes back what is open. @returns all that have not come. */
  async end(): Promise<readonly MissedFault[]> {
    await Promise.all([...this.open.keys()].map((fault) => this.takeBack(fault, "the run was over")));
    return this.missed;
  }

  /** What is open stays so. */
  stop(): void {
    for (const { timer } of this.open.values()) this.clock.clearTimer(timer);
  }

  private async takeBack(fault: Fault, what: string): Promise<void> {
    const device = this.open.get(fault)?.device;
    const hasWaited = await device?.ask.withdraw(fault).catch(() => undefined);
    // Who does not answer is lost by then, or is asked again at the end.
    if (hasWaited === undefined || !this.open.has(fault)) return;
    if (hasWaited) this.miss(fault, `${what} before ${fault.device} did anything of the kind`);
    else this.close(fault);
  }

  private miss(fault: Fault, why: string): void {
    this.close(fault);
    this.missed.push({ fault, why });
  }

  private close(fault: Fault): void {
    this.clock.clearTimer(this.open.get(fault)?.timer);
    this.open.delete(fault);
  }
}
