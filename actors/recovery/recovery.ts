/**
 * What is done when devices are lost in a run: others take their places, everyone gets back what they held at the latest
 * recovery point, and the run goes on behind it, as a further generation. Where all others can stay behind a later step,
 * those alone who are new go back to that point, and make the steps up to there by themselves.
 */

import type { Deployment, DeployOptions } from "../scheduler/deployment.ts";
import { type Plan, workersOf } from "../scheduler/plan.ts";
import { type Moved, type MoveWorld, redeploy } from "./migration.ts";
import { alikeOf } from "./placement.ts";
import { type Successor, takeover } from "./takeover.ts";

export interface Recovered extends Moved {
  /** Whether there was no copy of something, so that it is a checkpoint that the run goes back to. */
  readonly fromCheckpoint: boolean;
}

/**
 * The plan in which those that are left take the places of those that are not, each where its copies are.
 * @param lost ids of all devices that are gone. @param alive the others.
 * @returns null where nobody is left.
 */
export function successorPlan(
  { keeper: { ledger } }: Pick<MoveWorld, "keeper">,
  plan: Plan,
  old: Deployment,
  lost: ReadonlySet<string>,
  alive: readonly Successor[],
): Plan | null {
  const point = ledger.point(old.changingNames());
  const held = old.held();
  const workers = workersOf(plan);
  return takeover(plan, lost, alive, (worker) => [
    ...(point === null ? [] : ledger.devicesWith(point, held[worker.worker]!.holding.worker)),
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
