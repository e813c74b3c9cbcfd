/**
 * What is done when devices are lost in a run: others take their places, everyone gets back what they held at the latest
 * recovery point, and the run goes on behind it, as a further generation. Where all others can stay behind a later step,
 * those alone who are new go back to that point, and make the steps up to there by themselves.
 */

import { dealLost, type Midway } from "../scheduler/dealt.ts";
import type { Deployment, DeployOptions } from "../scheduler/deployment.ts";
import { type Plan, workersOf } from "../scheduler/plan.ts";
import { PlanError } from "../scheduler/plan-error.ts";
import { unfinished } from "../scheduler/through.ts";
import { type Moved, type MoveWorld, redeploy } from "./migration.ts";
import { alikeOf } from "./placement.ts";
import type { Replanner } from "./replanner.ts";
import type { Roster } from "./roster.ts";
import { type Successor, takeover } from "./takeover.ts";

export interface Recovered extends Moved {
  /** Whether there was no copy of something, so that it is a checkpoint that the run goes back to. */
  readonly fromCheckpoint: boolean;
}

/** What a plan for those that are left is made within. */
export interface Bounds {
  readonly roster: Pick<Roster, "living" | "lost">;
  /** Undefined where no other plans are made. */
  readonly replanner: Replanner | undefined;
  /** Whether the run waits for devices where it has too few. */
  readonly waits: boolean;
  /** Ids of devices that are through with the step under way: where those are lost, the step goes on as if they were there. */
  readonly through: ReadonlySet<string>;
  /** Undefined where no step is under way. */
  readonly midway?: Midway | undefined;
}

/**
 * The plan in which the others of their stages do what those would have done that are gone, or others take their places;
 * another where these are too small; or what is missing.
 */
export function planWithout(
  world: Pick<MoveWorld, "keeper">,
  plan: Plan,
  deployed: Deployment,
  { roster, replanner, waits, through, midway }: Bounds,
): Plan | string {
  const living = roster.living();
  // Dealt by the time that is left of a step it is for that step alone: behind it another is gone over to, if there may be one.
  for (const late of replanner?.isFree(plan) && midway ? [midway, undefined] : [undefined]) {
    const dealt = deployed.dealsLost ? dealtWithout(plan, roster.lost(), through, late) : null;
    if (dealt && (replanner?.overfull(dealt, plan) ?? null) === null) return dealt;
  }
  const next = successorPlan(world, plan, deployed, roster.lost(), living);
  if (!next) return "no device is left";
  const full = replanner?.overfull(next) ?? null;
  if (full === null) return next;
  const ids = living.map(({ id }) => id);
  try {
    if (replanner!.isFree(plan)) return replanner!.best(plan, ids);
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
  }
  return waits ? full : next;
}

/** @returns null where somebody has to take a lost one's place, or nobody is lost. */
function dealtWithout(
  plan: Plan,
  lost: ReadonlySet<string>,
  through: ReadonlySet<string>,
  midway: Midway | undefined,
): Plan | null {
  const again = unfinished(plan, lost, through);
  const isMissing = workersOf(plan).some(({ member }) => lost.has(member.device));
  return isMissing && again.size === 0 ? plan : dealLost(plan, again, midway);
}

/**
 * The plan in which those that are left take the places of those that are not, each where its copies are.
 * @param lost ids of all devices that are gone. @param alive the others.
 * @returns null where nobody is left.
 */
function successorPlan(
  { keeper }: Pick<MoveWorld, "keeper">,
  plan: Plan,
  old: Deployment,
  lost: ReadonlySet<string>,
  alive: readonly Successor[],
): Plan | null {
  const point = keeper.ledger.point(old.changingNames());
  const held = old.held();
  const workers = workersOf(plan);
  return takeover(plan, lost, alive, (worker) => [
    ...(point === null ? [] : keeper.devicesWith(point, worker.worker, held[worker.worker]!)),
    ...alikeOf(worker, workers),
  ]);
}

/** Goes on with a plan for those that are left. @param isAlive by device id. @param reached the last step that all have committed. */
export async function recover(
  world: MoveWorld,
  next: Plan,
  old: Deployment,
  isAlive: (device: string) => boolean,
  options: DeployOptions,
  reached: number,
): Promise<Recovered> {
  const point = world.keeper.ledger.point(old.changingNames());
  const moved = await redeploy(world, next, old, isAlive, options, point, reached);
  return { ...moved, fromCheckpoint: point === null };
}
