/**
 * How a run begins: its devices are asked what they are, measured, and given their stages. Any of them may be lost before
 * the first step. Then the run begins with the others, planned anew; nothing of it is there yet that could be lost.
 */

import { type Plan, workersOf } from "../scheduler/plan.ts";
import { PlanError } from "../scheduler/plan-error.ts";
import type { Replanner } from "./replanner.ts";
import { DeviceLost, type Loss, type Roster } from "./roster.ts";
import { takeover } from "./takeover.ts";

export class Beginning {
  private readonly roster: Roster;
  private readonly goesOn: boolean;
  private readonly losses: Loss[] = [];

  /** @param goesOn whether the run does after a loss. */
  constructor(roster: Roster, goesOn: boolean) {
    this.roster = roster;
    this.goesOn = goesOn;
  }

  /**
   * Runs `work` with the devices that are there; again where one is lost meanwhile, as long as there is one left.
   * @param paused hears that nobody is left and why: then it goes on when a device has joined. Without it, nobody joins.
   * @throws DeviceLost for the first that was lost, where nobody is left or the run does not go on.
   */
  async among<T>(work: () => Promise<T>, paused?: (reason: string) => void): Promise<T> {
    const { roster } = this;
    let first: DeviceLost | undefined;
    for (;;) {
      let under: Promise<unknown> = Promise.resolve();
      try {
        return await roster.guard(() => {
          const working = work();
          under = working;
          return working;
        });
      } catch (error) {
        if (!(error instanceof DeviceLost)) throw error;
        first ??= error;
        if (!this.goesOn) throw error;
        this.losses.push(...roster.takeLosses());
        if (!paused && roster.present().length === 0) throw first;
        // What the others are asked for already is not to disturb what they are asked for next.
        await under.catch(() => {});
        if (!paused || roster.living().length > 0) continue;
        const names = this.losses.map(({ id }) => roster.name(id));
        paused(`${names.join(", ")} gone: no device is left`);
        while (roster.living().length === 0) await roster.nextArrival;
      }
    }
  }

  /** Those that were lost before the run has begun, for whoever tells of them. */
  takeLosses(): readonly Loss[] {
    return this.losses.splice(0);
  }
}

/**
 * The plan, or one without those of its devices that are gone: the best that makes the same result, else the one in which
 * others take their places.
 * @throws PlanError in one line where those that are left are too small for it.
 */
export function planAmong(plan: Plan, roster: Roster, replanner: Replanner | undefined): Plan {
  if (workersOf(plan).every(({ member }) => !roster.isGone(member.device))) return plan;
  const living = roster.living();
  const next = takeover(plan, roster.lost(), living, () => []);
  if (!next) throw new PlanError("no device is left");
  if (!replanner?.isFree(plan)) return next;
  try {
    return replanner.best(
      plan,
      living.map(({ id }) => id),
    );
  } catch (error) {
    if (!(error instanceof PlanError) || replanner.overfull(next) !== null) throw error;
    return next;
  }
}
