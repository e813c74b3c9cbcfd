/**
 * What is done when devices are lost in a run: others take their places, everyone gets back what they held at the latest
 * recovery point, and the run goes on behind it, as a further generation. Of a deployment that could not be completed,
 * because somebody else was lost meanwhile, nothing is left.
 */

import type { Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import { Deployment } from "../scheduler/deployment.ts";
import { type Plan, workersOf } from "../scheduler/plan.ts";
import type { SpecOptions } from "../scheduler/specs.ts";
import type { Keeper } from "./keeper.ts";
import { alikeOf } from "./placement.ts";
import { type Successor, takeover } from "./takeover.ts";

/** What a run can begin with when no copies are left: the last checkpoint, or its beginning. */
export interface Restart {
  /** The step that left these values; one before the first at the beginning. */
  readonly step: number;
  readonly values: Readonly<Record<string, Tensor>>;
}

export interface RecoveryWorld {
  /** By plan id. */
  readonly devices: readonly Ref<Device>[];
  readonly segments: readonly Segment[];
  readonly owner: Ref<any>;
  readonly keeper: Keeper;
  restart(): Promise<Restart>;
  /** Values that training does not change. */
  fixed(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
}

export interface Recovered {
  readonly plan: Plan;
  readonly deployment: Deployment;
  /** The run goes on behind it. */
  readonly step: number;
  /** Bytes that stages were given. */
  readonly bytes: number;
  /** Whether there was no copy of something, so that it is a checkpoint that the run goes back to. */
  readonly fromCheckpoint: boolean;
}

/**
 * @param lost ids of all devices that are gone. @param alive the others.
 * @returns null where nobody is left.
 */
export async function recover(
  { devices, segments, owner, keeper, restart, fixed }: RecoveryWorld,
  plan: Plan,
  old: Deployment,
  lost: ReadonlySet<string>,
  alive: readonly Successor[],
  options: SpecOptions,
): Promise<Recovered | null> {
  const { ledger } = keeper;
  const point = ledger.point(old.changingNames());
  const held = old.held();
  const workers = workersOf(plan);
  const next = takeover(plan, lost, alive, (worker) => [
    ...(point === null ? [] : ledger.devicesWith(point, held[worker.worker]!.holding.worker)),
    ...alikeOf(worker, workers),
  ]);
  if (next === null) return null;
  const living = new Set(alive.map(({ id }) => id));
  await old.retire((device) => living.has(device));
  const fresh = await Deployment.start(next, segments, devices, owner, options);
  try {
    let bytes = 0;
    let step = point;
    if (step === null) {
      const begin = await restart();
      await fresh.load(begin.values);
      step = begin.step;
    } else bytes = await fresh.restore(step, ledger, fixed);
    await fresh.keep(step);
    for (const { device, stage } of held) {
      ledger.drop(stage);
      if (living.has(device)) await devices[Number(device)]!.ask.end(stage);
    }
    return { plan: next, deployment: fresh, step, bytes, fromCheckpoint: point === null };
  } catch (error) {
    await Promise.all(
      fresh.held().map(({ device, stage }) => devices[Number(device)]!.ask.end(stage).catch(() => {})),
    );
    throw error;
  }
}
