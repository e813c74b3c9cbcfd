/**
 * Whether a run goes over to another plan: pure. A better plan is worth what it saves in the steps that are left, if that
 * is more than what it takes to go there: the bytes that have to move, over measured links, and the time until stages are
 * there. Twice it is held back, so that nothing flaps: small gains are none, and after each move there is none for a while.
 */

import type { Profile, SegmentCost } from "../scheduler/cost.ts";
import { isSharded, type Plan, type PlanMember, type PlanStage } from "../scheduler/plan.ts";
import { turnOf } from "./turns.ts";

/** What makes a run look for another plan: a device is gone, has come, or is not as fast as it was measured to be. */
export type Cause = "lost" | "joined" | "drifted";

/**
 * Of a step's time. Two predictions that are nearer to each other than this say nothing: they are within a tenth of what
 * steps take. Where going over costs less than a step, less is lost if it was for nothing, and as much less has to be gained.
 */
export const LEAST_GAIN = 0.1;

/** What has to be gained by any move: plans that differ by less are as good. */
const ANY_GAIN = 0.005;

/**
 * Steps after a move because devices came or drifted in which there is no other for that. Whether one drifts is known from the median
 * of 7 steps of a plan at least (`drift.ts`), of which half may still be disturbed by the move: twice as many. A device that comes and
 * goes all the time costs one move in so many steps at most. Where one is lost the plan is changed anyhow, and there is no
 * reason to wait with a better one. Behind a move that took less than a step, devices that come wait for as much less.
 */
export const COOL_DOWN_STEPS = 14;

/** What one device has to be given by another. */
export interface Transfer {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
}

/**
 * What has to go from device to device so that a run goes on with another plan: of each segment its parameters and the
 * optimiser's state, where a device does not have the same of it already.
 */
export function transfers(old: Plan, next: Plan, segments: readonly SegmentCost[]): readonly Transfer[] {
  const found = new Map<string, Transfer>();
  for (const stage of next.stages) {
    for (const [rank, member] of stage.members.entries()) {
      for (const { from, to } of stage.ranges) {
        for (let segment = from; segment < to; segment++) {
          const holder = old.stages.find(({ ranges }) =>
            ranges.some((r) => r.from <= segment && segment < r.to),
          );
          if (!holder || hasSame(holder, stage, rank, member)) continue;
          const others = holder.members.filter(({ device }) => device !== member.device);
          const source = others[turnOf(member.device, others.length)] ?? holder.members[0]!;
          const { parameterBytes, stateBytes = 2 * parameterBytes } = segments[segment]!;
          const bytes = (parameterBytes + stateBytes) * partOf(stage, member);
          const key = `${source.device} ${member.device}`;
          const before = found.get(key)?.bytes ?? 0;
          found.set(key, { from: source.device, to: member.device, bytes: before + bytes });
        }
      }
    }
  }
  return [...found.values()];
}

/** Whether the device has in one stage of what is held in another what it is to hold there. */
function hasSame(old: PlanStage, next: PlanStage, rank: number, member: PlanMember): boolean {
  const own = old.members.findIndex(({ device }) => device === member.device);
  if (own < 0) return false;
  const isCut = ({ sharing }: PlanStage) => isSharded(sharing) && sharing !== "sequence";
  // Who has all of it has any part of it.
  if (!isCut(old)) return true;
  const shares = ({ members }: PlanStage) => members.map(({ share }) => share).join();
  return isCut(next) && own === rank && shares(old) === shares(next);
}

function partOf(stage: PlanStage, { share }: PlanMember): number {
  if (!isSharded(stage.sharing) || stage.sharing === "sequence") return 1;
  return share / stage.members.reduce((sum, member) => sum + member.share, 0);
}

/**
 * Whether devices at work have to start stages to go over: that takes their time. Not where everyone goes on with the part of
 * the model that they have whole, whichever micro-batches they are dealt; and whoever has nothing to do starts beside the work.
 */
export function startsStages(old: Plan, next: Plan): boolean {
  if (old.schedule !== next.schedule) return true;
  const made = ({ ranges, recompute, sharing }: PlanStage) => {
    return sharing === null || sharing === "data" ? JSON.stringify([ranges, recompute]) : null;
  };
  const isAtWork = (device: string) =>
    old.stages.some(({ members }) => members.some((own) => own.device === device));
  return next.stages.some((stage) => {
    const same = old.stages.find((other) => made(other) !== null && made(other) === made(stage));
    const stays = (device: string) => same?.members.some((own) => own.device === device);
    return stage.members.some(({ device }) => !stays(device) && isAtWork(device));
  });
}

/**
 * Milliseconds that a run stands still to go over: all devices send and receive at once, each as much as its lines carry,
 * and the one that takes longest is waited for. A line that nobody has measured takes no time.
 * @param startMs until stages are there: the longest that it took so far in this run, or nothing where none is started.
 */
export function moveMs(
  moves: readonly Transfer[],
  { links }: Pick<Profile, "links">,
  startMs: number,
): number {
  const busy = new Map<string, number>();
  for (const { from, to, bytes } of moves) {
    const link = links[from]?.[to];
    if (!link || from === to) continue;
    const ms = link.latencyMs + bytes / link.bytesPerMs;
    for (const end of [`from ${from}`, `to ${to}`]) busy.set(end, (busy.get(end) ?? 0) + ms);
  }
  return startMs + Math.max(0, ...busy.values());
}

export interface Outlook {
  /** Predicted, of a step by the present plan and by the other. */
  readonly oldStepMs: number;
  readonly newStepMs: number;
  readonly stepsLeft: number;
  readonly moveMs: number;
}

export interface Decision {
  readonly moves: boolean;
  /** For people. */
  readonly why: string;
}

/** Whether another plan is gone over to. */
export function decide({ oldStepMs, newStepMs, stepsLeft, moveMs: cost }: Outlook): Decision {
  const least = Math.max(ANY_GAIN, LEAST_GAIN * Math.min(1, cost / oldStepMs));
  const gain = oldStepMs - newStepMs;
  const step = `a step would take ${ms(newStepMs)} in place of ${ms(oldStepMs)}`;
  if (!(gain > least * oldStepMs)) {
    const isWorse = gain < -least * oldStepMs;
    return { moves: false, why: `${step}: ${isWorse ? "more" : "less than predictions can tell apart"}` };
  }
  const saved = `${step}, which saves ${ms(gain * stepsLeft)} in ${stepsLeft} step${stepsLeft === 1 ? "" : "s"}`;
  const moves = gain * stepsLeft > cost;
  return { moves, why: `${saved}, and going there ${moves ? "takes" : "would take"} ${ms(cost)}` };
}

/** The last move because a device came or drifted. */
export interface LastMove {
  readonly stepsSince: number;
  /** For which the run stood still, in steps. */
  readonly costSteps: number;
}

/**
 * Whether it is time to look for another plan.
 * @param last null when there was none.
 */
export function isDue(causes: Iterable<Cause>, last: LastMove | null): boolean {
  const all = [...causes];
  if (all.length === 0) return false;
  if (all.includes("lost") || last === null || last.stepsSince >= COOL_DOWN_STEPS) return true;
  // Whether a device drifts is not known sooner, whatever the move cost.
  return all.includes("joined") && last.stepsSince >= COOL_DOWN_STEPS * last.costSteps;
}

/** What takes its time may take half as long again. */
const SLACK = 1.5;

/**
 * In a step that is under way, milliseconds for which a plan need not be looked for yet that is to be gone over to behind it:
 * whoever comes until then is in it as well. Null where what is left of the step is not enough.
 * @param leftMs of the step, by prediction. @param takesMs to find a plan and to make its stages ready, as it was of late.
 * @param stepMs of all of the step, by prediction, which may be off by `LEAST_GAIN` of it.
 */
export function gatherMs(leftMs: number, takesMs: number, stepMs: number): number | null {
  if (leftMs < takesMs) return null;
  return Math.max(0, leftMs - SLACK * takesMs - LEAST_GAIN * stepMs);
}

function ms(value: number): string {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}
