/**
 * A run in which a loss stops everybody, simulated in time: what is under way is given up, and the whole step is repeated
 * once the lost device's stage is there again. Steps are always as long as with all devices, so that all that is lost is
 * lost by stopping.
 */

import { alikeOf } from "../../actors/recovery/placement.ts";
import { type Plan, workersOf } from "../../actors/scheduler/plan.ts";
import { seededRandom } from "../../runtime/random.ts";
import type { Assumed } from "./rules.ts";
import type { ChurnWorld } from "./world.ts";

export interface WholeRun {
  /** Of the steps that the undisturbed run makes. */
  readonly goodput: number;
  readonly hits: number;
  /** Given up in the middle of steps, done again behind older copies, and stood still. */
  readonly repeatedMs: number;
  readonly againMs: number;
  readonly stoppedMs: number;
  /** From one step to the next where nobody leaves. */
  readonly stepMs: number;
}

/** @param every of so many steps what it leaves is copied. */
export function runWhole(world: ChurnWorld, plan: Plan, assumed: Assumed, every = 1): WholeRun {
  const { predictedStepMs: stepMs } = plan;
  const endMs = world.minutes * 60_000;
  const workers = workersOf(plan);
  // Whose stage is with others as it is now, or only as of the last copy.
  const hasAlike = new Map(
    workers.map((worker) => [worker.member.device, alikeOf(worker, workers).length > 0]),
  );
  const random = seededRandom(world.seed + 1);
  const leaves = world.events.filter(({ what, device }) => what === "leave" && hasAlike.has(device));
  const sums = { hits: 0, repeatedMs: 0, againMs: 0, stoppedMs: 0 };
  let [now, steps, next] = [0, 0, 0];
  while (now < endMs) {
    const leave = leaves[next];
    if (!leave || leave.atMs >= now + stepMs) {
      now += stepMs;
      steps++;
      continue;
    }
    next++;
    sums.hits++;
    const detectMs = random.next() < assumed.silent ? assumed.silentMs : assumed.closedMs;
    const resumedMs = Math.max(now, leave.atMs) + detectMs + assumed.startMs;
    if (leave.atMs > now) sums.repeatedMs += leave.atMs - now;
    sums.stoppedMs += resumedMs - Math.max(now, leave.atMs);
    now = resumedMs;
    if (hasAlike.get(leave.device)) continue;
    const back = steps % every;
    steps -= back;
    sums.againMs += back * stepMs;
  }
  return { goodput: (steps * stepMs) / now, ...sums, stepMs };
}
