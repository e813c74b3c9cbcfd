/**
 * Going from one plan to another between two steps, without losing one: everyone keeps a copy of what the last step left,
 * the stages of the new plan fetch what they hold from whoever has it, and the old ones end. It is what recovery does too,
 * from an earlier step and without those that are gone (`recovery.ts`).
 *
 * Stages that were made ready before (`preparing.ts`) are not started then, and those that both plans have stay.
 *
 * Nothing depends on its success: until everything of the new plan is in place again elsewhere as well, the old stages'
 * copies remain, and of a deployment that could not be completed, because somebody was lost meanwhile, nothing is left.
 */

import type { Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import type { Destination } from "../data/source.ts";
import type { Device } from "../device.ts";
import { Deployment, type DeployOptions } from "../scheduler/deployment.ts";
import type { Placed } from "../scheduler/handover.ts";
import { endStage } from "../scheduler/hosting.ts";
import type { Plan } from "../scheduler/plan.ts";
import type { Stage } from "../stage.ts";
import type { Keeper } from "./keeper.ts";

/** What a run can begin with when no copies are left: the last checkpoint, or its beginning. */
export interface Restart {
  /** The step that left these values; one before the first at the beginning. */
  readonly step: number;
  readonly values: Readonly<Record<string, Tensor>>;
}

export interface MoveWorld {
  /** By plan id. */
  readonly devices: readonly Ref<Device>[];
  readonly segments: readonly Segment[];
  readonly owner: Ref<any>;
  readonly keeper: Keeper;
  readonly clock: Clock;
  /** Whether a step is under way. */
  readonly midway: boolean;
  /** Whether this is still what is wanted: somebody may be lost while it goes on. */
  isCurrent(options: DeployOptions): boolean;
  restart(): Promise<Restart>;
  /** Values that training does not change. */
  fixed(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
  /** Sends the data of a step. */
  feed(step: number, to: Destination): Promise<unknown>;
}

export interface Moved {
  readonly plan: Plan;
  readonly deployment: Deployment;
  /** The run goes on behind it. */
  readonly step: number;
  /** Bytes that stages were given from elsewhere. */
  readonly bytes: number;
  /** Milliseconds that it took until stages were there, with nothing in them. */
  readonly startMs: number;
}

/**
 * Everyone keeps a copy of what `step` left, which all have committed: for going on with another plan behind it.
 * @returns bytes that some of them have been given since the deployment began.
 */
export async function keepAll(
  { keeper }: Pick<MoveWorld, "keeper">,
  deployed: Deployment,
  step: number,
): Promise<number> {
  const bytes = await deployed.givenLate();
  await deployed.keep(step);
  for (const { holding, device, stage } of deployed.held()) {
    keeper.ledger.add({ holding, step, device, source: stage });
  }
  return bytes;
}

/**
 * Goes over to another plan behind a step that all have committed and kept.
 * @param prepared stages that were made ready for it: whatever is of no use for it ends.
 * @throws as `redeploy`.
 */
export async function goOver(
  world: MoveWorld,
  next: Plan,
  old: Deployment,
  options: DeployOptions,
  step: number,
  prepared: readonly Placed[] = [],
): Promise<Moved> {
  let used = new Set<Ref<Stage>>();
  try {
    const moved = await redeploy(world, next, old, () => true, options, step, step, prepared);
    used = new Set(moved.deployment.stages);
    return moved;
  } finally {
    for (const each of prepared) {
      if (!used.has(each.stage)) void endStage(world.devices, each).catch(() => {});
    }
  }
}

/**
 * Ends what a deployment has under way, and goes on with what is kept of a step as another one. Stages that the two have in
 * common stay where they are, and keep what they hold.
 * @param point null for what the run can begin with. @param isAlive by device id.
 * @param reached the last step that all have committed, which may be later than the point: where those that stay can, they
 *   stay there, and whoever is new makes the steps in between.
 * @param prepared stages that may become workers of the next plan.
 * @throws DeviceFailed for a device that cannot do its part of it: nothing runs then, and copies are where they were.
 *   Stages that were made ready are whoever's they were.
 */
export async function redeploy(
  world: MoveWorld,
  next: Plan,
  old: Deployment,
  isAlive: (device: string) => boolean,
  options: DeployOptions,
  point: number | null,
  reached = point,
  prepared: readonly Placed[] = [],
): Promise<Moved> {
  const { devices, segments, owner, keeper, clock } = world;
  keeper.suspend();
  if (point !== null) keeper.ledger.forgetAfter(point);
  const began = clock.now();
  const before = { deployment: old, isAlive, step: point, reached, midway: world.midway, prepared };
  const fresh = await Deployment.start(next, segments, devices, owner, options, before);
  const startMs = clock.now() - began;
  try {
    let bytes = 0;
    let step = point;
    if (step === null) {
      const begin = await world.restart();
      await fresh.load(begin.values);
      step = begin.step;
    } else {
      bytes = await fresh.restore(step, keeper.ledger, world.fixed);
      step = await fresh.catchUp(step, world.feed);
      if (step !== point) keeper.forgetUnfinished(fresh, step);
    }
    await fresh.keep(step);
    if (!world.isCurrent(options)) throw new Error("it was given up meanwhile");
    const stays = new Set(fresh.stages);
    keeper.supersede(old.held().filter(({ device, stage }) => isAlive(device) && !stays.has(stage)));
    return { plan: next, deployment: fresh, step, bytes, startMs };
  } catch (error) {
    await fresh.end(devices);
    throw error;
  }
}
