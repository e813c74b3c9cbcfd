/**
 * Whose work a device does, and what becomes of it when they are lost. A run's coordinator is the owner of what the device
 * does for it. Where the run has a name, its copies outlive a coordinator that is lost, for a while: another one of the
 * same run may come and take them over. One that ends, rather than being lost, takes its run with it.
 */

import type { Clock, Ref, Timer } from "../../runtime/index.ts";

/** How long copies wait for another coordinator, in milliseconds, unless a device is told otherwise. */
export const DEFAULT_GRACE_MS = 60_000;

export class Custody {
  private readonly clock: Clock;
  private readonly graceMs: number;
  private readonly runs = new Map<string, { owner: Ref<any>; timer?: Timer }>();

  constructor(clock: Clock, graceMs: number) {
    this.clock = clock;
    this.graceMs = graceMs;
  }

  /** The run is this owner's from here on. @returns whose it was before; null for a run that is new here. */
  take(run: string, owner: Ref<any>): Ref<any> | null {
    const before = this.runs.get(run);
    if (before?.timer) this.clock.clearTimer(before.timer);
    this.runs.set(run, { owner });
    return before?.owner ?? null;
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
      this.runs.delete(run);
      end();
    }, this.graceMs);
    this.runs.set(run, { owner, timer });
    return true;
  }

  /** An owner has ended: nobody will come. */
  release(owner: Ref<any>): void {
    for (const [run, known] of this.runs) if (known.owner.key === owner.key) this.runs.delete(run);
  }

  close(): void {
    for (const { timer } of this.runs.values()) if (timer) this.clock.clearTimer(timer);
    this.runs.clear();
  }
}
