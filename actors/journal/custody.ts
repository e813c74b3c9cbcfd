/**
 * Whose work a device does, and what becomes of it when they are lost. A run's coordinator is the owner of what the device
 * does for it. Where the run has a name, its copies outlive a coordinator that is lost, for a while: another one of the
 * same run may come and take them over. One that ends, rather than being lost, takes its run with it.
 *
 * A coordinator that was only believed to be lost may come back: what it asks for is refused once another one has come, for
 * that is of a later epoch.
 */

import type { Clock, Ref, Timer } from "../../runtime/index.ts";

/** Somebody else leads the run. */
export class Superseded extends Error {
  readonly code = "SUPERSEDED";
  override readonly name = "Superseded";
}

export class Custody {
  private readonly clock: Clock;
  private readonly graceMs: number;
  private readonly runs = new Map<string, { owner: Ref<any>; epoch: number; timer?: Timer }>();
  /** Keys of owners that others have taken runs over from, and the runs. */
  private readonly former = new Map<string, string>();

  constructor(clock: Clock, graceMs: number) {
    this.clock = clock;
    this.graceMs = graceMs;
  }

  /**
   * The run is this owner's from here on.
   * @param epoch not lower than that of any before. @returns whose it was before; null for a run that is new here.
   * @throws Superseded for one that somebody of a later epoch has come for, or that was taken over from this owner.
   */
  take(run: string, owner: Ref<any>, epoch = 0): Ref<any> | null {
    this.require(owner);
    const before = this.runs.get(run);
    if (before && before.epoch > epoch) throw superseded(run);
    if (before?.timer) this.clock.clearTimer(before.timer);
    if (before && before.owner.key !== owner.key) this.former.set(before.owner.key, run);
    this.runs.set(run, { owner, epoch });
    return before?.owner ?? null;
  }

  /** @throws Superseded for an owner whose run is another's by now. */
  require(owner: Ref<any>): void {
    const run = this.former.get(owner.key);
    if (run !== undefined) throw superseded(run);
  }

  /**
   * An owner cannot be reached any more.
   * @param end called when nobody has come for what was its.
   * @returns whether to keep that meanwhile.
   */
  lose(owner: Ref<any>, end: () => void): boolean {
    const [run, known] = [...this.runs].find(([, each]) => each.owner.key === owner.key) ?? [];
    if (run === undefined || this.graceMs === 0) return false;
    if (known?.timer) return true;
    const timer = this.clock.setTimer(() => {
      this.forget(run);
      end();
    }, this.graceMs);
    this.runs.set(run, { owner, epoch: known!.epoch, timer });
    return true;
  }

  /** An owner has ended: nobody will come. */
  release(owner: Ref<any>): void {
    for (const [run, known] of this.runs) if (known.owner.key === owner.key) this.forget(run);
  }

  private forget(run: string): void {
    this.runs.delete(run);
    for (const [key, of] of this.former) if (of === run) this.former.delete(key);
  }

  close(): void {
    for (const { timer } of this.runs.values()) if (timer) this.clock.clearTimer(timer);
    this.runs.clear();
  }
}

function superseded(run: string): Superseded {
  return new Superseded(`another coordinator has taken over run ${run}: this one does not lead it any more`);
}
